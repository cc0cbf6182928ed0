//! What the prompts of a config come to: styles put around them, and random choices made.

use diffusion_engine::{Styles, Txt2Img};

use crate::{Config, Error, Noise, Result, wildcards::Folder};

/// The longest table of styles that is read, in bytes.
const LONGEST: u64 = 8 << 20;

impl Config {
    /// The requests of a request of this config, each drawn by a job of its own: with the config's styles around its prompts and their
    /// random choices made, and one for each of the config's batches. Where pictures differ in what they choose, each has its own.
    ///
    /// # Errors
    /// [`Error::Value`] for styles without a table or several batches from one file of noise, [`Error::ReadWords`] or [`Error::Styles`] for
    /// a table that can't be read or lacks one, [`Error::Run`] for choices that can't be made.
    pub fn requests_of(&self, request: Txt2Img) -> Result<Vec<Txt2Img>> {
        let request = self.styled(request)?;
        let batches = self.image.batches;
        if batches > 1 && matches!(self.sampling.noise, Some(Noise::File(_))) {
            let (expected, found) = ("1, as the noise is a file's".to_owned(), batches.to_string());
            return Err(Error::Value { key: "image.batches".into(), expected, found });
        }
        let folder = self.prompt.wildcards.as_deref().map(Folder::of);
        let lines = |name: &str| folder.as_ref().map_or(Ok(None), |folder| folder.lines(name));
        let chosen = |request: Txt2Img| request.chosen(&lines);
        let requests = request.batches(batches).into_iter().map(chosen).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(requests.concat())
    }

    fn styled(&self, mut request: Txt2Img) -> Result<Txt2Img> {
        let names = &self.prompt.styles;
        if names.is_empty() {
            return Ok(request);
        }
        let Some(path) = self.prompt.styles_file.clone() else {
            return Err(Error::Value {
                key: "prompt.styles_file".into(),
                expected: "a table, as `prompt.styles` names styles of it".into(),
                found: "nothing".into(),
            });
        };
        let table = self.read_once.text(&path, LONGEST);
        let table = table.map_err(|source| Error::ReadWords { path: path.clone(), source })?;
        let around = |prompt: &str, negative: &str| {
            let styled = Styles::of(&table).and_then(|styles| styles.around(prompt, negative, names));
            styled.map_err(|source| Error::Styles { path: path.clone(), source })
        };
        let pass = &mut request.pass;
        [pass.prompt, pass.negative] = around(&pass.prompt, &pass.negative)?;
        if let Some(hires) = &mut request.hires {
            let [prompt, negative] = around(&hires.prompt, &hires.negative)?;
            // What is empty is the first pass's, which has its styles.
            for (own, styled) in [(&mut hires.prompt, prompt), (&mut hires.negative, negative)] {
                if !own.is_empty() {
                    *own = styled;
                }
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn styles_stand_around_a_prompt_and_each_picture_chooses_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("styles.csv"), "name,prompt,negative_prompt\nink,\"{prompt}, in ink\",colour\n").unwrap();
        fs::create_dir_all(place("cards/sub")).unwrap();
        fs::write(place("cards/sub/pets.txt"), "cat\ndog\nowl\n").unwrap();
        fs::write(place("secret.txt"), "secret").unwrap();
        let config = |rest: &str| {
            let text = format!("[prompt]\nstyles = [\"ink\"]\nstyles_file = {:?}\n{rest}", place("styles.csv"));
            text.parse::<Config>().unwrap()
        };
        let cards = format!("wildcards = {:?}\npositive = \"a __sub/pets__\"\n[image]\nbatch = 12", place("cards"));
        let drawn = |config: &Config| config.requests_of(config.request(|| 5)?);
        let requests = drawn(&config(&cards)).unwrap();
        assert_eq!(requests.len(), 12);
        let prompts: std::collections::BTreeSet<_> = requests.iter().map(|r| r.pass.prompt.clone()).collect();
        let [cat, dog, owl] = ["cat", "dog", "owl"].map(|pet| format!("a {pet}, in ink"));
        assert_eq!(prompts, [cat, dog, owl].into());
        assert!(requests.iter().all(|request| request.batch == 1 && request.pass.negative == "colour"));
        assert_eq!(requests.iter().map(|request| request.seed).collect::<Vec<_>>(), (5..17).collect::<Vec<_>>());
        // of several batches each picture has its own too, and they go on
        let batches = drawn(&config(&format!("{cards}\nbatches = 2").replace("batch = 12", "batch = 6"))).unwrap();
        assert_eq!(batches, requests);
        // without choices it is one request, and a name that leads out of the folder has no lines
        assert_eq!(drawn(&config("positive = \"a cat\"\n[image]\nbatch = 3")).unwrap().len(), 1);
        let batches = drawn(&config("positive = \"a cat\"\n[image]\nbatch = 3\nbatches = 2")).unwrap();
        assert_eq!(batches.iter().map(Txt2Img::seeds).collect::<Vec<_>>(), [[5, 6, 7], [8, 9, 10]]);
        let outside = format!("wildcards = {:?}\npositive = \"__../secret__\"", place("cards"));
        assert!(drawn(&config(&outside)).is_err());
        let unknown = "[prompt]\nstyles = [\"oil\"]";
        assert!(matches!(drawn(&unknown.parse().unwrap()), Err(Error::Value { .. })));
        let unknown = format!("{unknown}\nstyles_file = {:?}", place("styles.csv"));
        assert!(matches!(drawn(&unknown.parse().unwrap()), Err(Error::Styles { .. })));
    }
}
