//! Where a run writes: never over what it reads, only where a file can be, and nothing is left of runs that were killed.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use forge::read_infotext;

use crate::tiny::{ROLES, Ran, Tensors, Tiny, golden, wait};

/// A model whose files are in the folder, so that a test that fails loses nothing else.
fn own() -> Tiny {
    ROLES.into_iter().fold(Tiny::quick(), |tiny, role| {
        let copy = tiny.write(&format!("models/{role}.safetensors"), fs::read(tiny.role(role)).unwrap());
        tiny.with(role, &copy)
    })
}

fn noise() -> Vec<u8> {
    Tensors(vec![]).zeros("noise", "F32", &[1, 16, 2, 2]).bytes()
}

/// What every file in the folder holds, by its name; of a link, where it leads.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
            all.push((path, target));
        } else if path.is_dir() {
            all.extend(contents(&path));
        } else if !path.ends_with(".stdout") && !path.ends_with(".stderr") {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn no_output_takes_the_place_of_a_file_that_is_read() {
    // given a model, noise and a prompt in files, each under its own name, a link's and a hard link's
    let tiny = own();
    tiny.write("n.safetensors", noise());
    tiny.write("words.txt", "a cat");
    tiny.write("t/transformer.safetensors", fs::read(tiny.role("transformer")).unwrap());
    tiny.write("t/config.json", "{}");
    tiny.write("c.png", fs::read(tiny.path("flux.toml")).unwrap());
    symlink(tiny.path("models"), tiny.path("other")).unwrap();
    symlink(tiny.path("models/t5.safetensors"), tiny.path("link.safetensors")).unwrap();
    fs::hard_link(tiny.path("models/vae.safetensors"), tiny.path("hard.safetensors")).unwrap();
    fs::hard_link(tiny.path("flux.toml"), tiny.path("config.png")).unwrap();
    let absolute = tiny.path("models/clip.safetensors").display().to_string();
    for name in ["ink.safetensors", "l/sub/ink.safetensors", "wc/pet.txt", "e/word.pt", "models/transformer.yaml"] {
        tiny.write(name, "of a kind that is read");
    }
    for name in ["v/taesd_decoder.safetensors", "v/taesd_encoder.safetensors", "d/text_encoder/config.json"] {
        tiny.write(name, "of a part");
    }
    tiny.write("d/tokenizer/tokenizer_config.json", "{}");
    symlink(tiny.path("ink.safetensors"), tiny.path("ink.png")).unwrap();
    let cases: [&[&str]; 28] = [
        &["--lora", "ink.safetensors", "--dump", "ink.safetensors"],
        &["--lora", "ink.safetensors", "--output", "ink.png"],
        &["--lora", "ink.safetensors", "--preview", "ink.png"],
        &["--loras", "l", "--dump", "l/sub/ink.safetensors"],
        &["--loras", ".", "--output", "ink.png"],
        &["--wildcards", "wc", "--dump", "wc/pet.txt"],
        &["--embeddings", "e", "--dump", "e/word.pt"],
        &["--dump", "models/transformer.yaml"],
        &["--refiner", "t", "--dump", "t/transformer.safetensors"],
        &["--dump", "models/transformer.safetensors"],
        &["--dump", "models/clip.safetensors"],
        &["--dump", "models/t5.safetensors"],
        &["--dump", "models/vae.safetensors"],
        &["--dump", "./models//clip.safetensors"],
        &["--dump", "models/../models/clip.safetensors"],
        &["--dump", "models/missing/../clip.safetensors"],
        &["--dump", "other/clip.safetensors"],
        &["--dump", &absolute],
        &["--dump", "link.safetensors"],
        &["--dump", "hard.safetensors"],
        &["--dump", "flux.toml"],
        &["--dump", "config.png"],
        &["--output", "config.png"],
        &["--noise", "n.safetensors", "--dump", "n.safetensors"],
        &["--prompt-file", "words.txt", "--dump", "words.txt"],
        &["--transformer", "t", "--dump", "t/transformer.safetensors"],
        &["--transformer", "t", "--dump", "t/config.json"],
        &["--transformer", "t/transformer.safetensors", "--dump", "t/config.json"],
    ];
    let before = contents(&tiny.path(""));
    for args in cases {
        // when an output is to go there, then it is refused before the work, and every file is as it was
        let ran = tiny.txt2img(args).refused(2, &["would replace `", "hint: give the output another name"]);
        assert!(!ran.err.contains("load "), "{ran:?}");
        assert!(contents(&tiny.path("")) == before, "{args:?}");
    }
    let ran = tiny.forge(&["txt2img", "--config", "c.png", "--output", "c.png"]).refused(2, &["would replace `c.png`"]);
    assert!(contents(&tiny.path("")) == before, "{ran:?}");
    // and what lies in such a folder and is none of those is replaced
    tiny.txt2img(&["--wildcards", "wc", "--output", "wc/a.png", "--dump", "wc/d.safetensors"]).done();
    tiny.txt2img(&["--wildcards", "wc", "--output", "wc/a.png", "--dump", "wc/d.safetensors"]).done();
    fs::remove_file(tiny.path("wc/a.png")).unwrap();
    fs::remove_file(tiny.path("wc/d.safetensors")).unwrap();
    // nor what is found beside a file that a key names
    for (key, named, beside) in [
        ("--vae", "v/taesd_decoder.safetensors", "v/taesd_encoder.safetensors"),
        ("--clip", "d/text_encoder", "d/tokenizer/tokenizer_config.json"),
        ("--clip", "d/text_encoder", "d/tokenizer/added_tokens.json"),
    ] {
        tiny.txt2img(&[key, named, "--dump", beside]).refused(2, &["--dump", beside, "a file of the model"]);
    }
    // nor does a dump join the files of a model
    tiny.txt2img(&["--transformer", "t", "--dump", "t/more.safetensors"]).refused(2, &["among the files of the model"]);
    assert!(contents(&tiny.path("")) == before);
}

#[test]
fn no_output_takes_the_place_of_another_output() {
    let tiny = own();
    symlink(tiny.path(""), tiny.path("here")).unwrap();
    for (output, dump) in [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("a.png", "here/a.png"),
        ("a.png", "new/../a.png"),
        ("new/{seed}.png", "new/7.png"),
        ("{index}.png", "0.png"),
    ] {
        let args = ["--seed", "7", "--output", output, "--dump", dump];
        tiny.txt2img(&args).refused(2, &["which is what this run also writes"]);
        assert_eq!(tiny.drawn(), Vec::<PathBuf>::new());
    }
    // and those that only look alike are both written
    tiny.txt2img(&["--seed", "7", "--output", "new/7.png", "--dump", "7.png"]).done();
    assert!(tiny.path("new/7.png").is_file() && tiny.path("7.png").is_file());
}

#[test]
fn a_folder_s_output_beside_its_model_is_no_fault() {
    let tiny = own();
    tiny.txt2img(&["--output", "models/a.png", "--dump", "models/dump.safetensors"]).done();
    assert!(tiny.path("models/a.png").is_file() && tiny.path("models/dump.safetensors").is_file());
}

#[test]
fn only_a_file_is_replaced_and_only_through_folders_that_are_there() {
    let tiny = Tiny::quick();
    symlink(tiny.path("nowhere"), tiny.path("link")).unwrap();
    assert!(Command::new("mkfifo").arg(tiny.path("pipe.png")).status().unwrap().success());
    let long = "n".repeat(256);
    let deep = vec!["n".repeat(200); 25].join("/");
    let cases = [
        ("pipe.png".to_owned(), "this is a pipe"),
        ("link/a.png".to_owned(), "`link` is a link to something that does not exist"),
        ("link/deeper/a.png".to_owned(), "`link` is a link to something that does not exist"),
        (format!("{long}/a.png"), "a name has at most 255"),
        (format!("ok/{long}/a.png"), "a name has at most 255"),
        (format!("{deep}/a.png"), "the path has"),
        ("flux.toml/a.png".to_owned(), "`flux.toml` is not a folder"),
    ];
    for (place, says) in cases {
        for flag in ["--output", "--dump"] {
            let ran = tiny.txt2img(&[flag, &place]).refused(1, &["cannot write `", says]);
            assert!(!ran.err.contains("load "), "{ran:?}");
        }
    }
    tiny.txt2img(&["--dump", "/dev/null"]).refused(1, &["cannot write `/dev/null`", "this is a device"]);
    assert!(fs::metadata("/dev/null").is_ok_and(|null| !null.is_file()));
}

#[test]
fn a_picture_that_is_replaced_keeps_its_permissions() {
    let tiny = Tiny::quick();
    let path = tiny.write("a.png", "old");
    for mode in [0o600, 0o664] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        tiny.txt2img(&["--output", "a.png"]).done();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_run_sweeps_what_killed_runs_left_in_its_folders() {
    let tiny = Tiny::quick();
    for name in ["out/.forge-4294967294-a.tmp", "dumps/.forge-4294967294-b.tmp", ".forge-4294967294-c.tmp"] {
        tiny.write(name, "part of a picture");
    }
    tiny.txt2img(&["--output", "out/a.png", "--dump", "dumps/d.safetensors"]).done();
    let names =
        |folder: &str| fs::read_dir(tiny.path(folder)).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!((names("out"), names("dumps")), (vec!["a.png".into()], vec!["d.safetensors".into()]));
    // and of where it was tried whether a folder can be made
    tiny.txt2img(&["--output", "new/a.png"]).done();
    assert!(!tiny.path(".forge-4294967294-c.tmp").exists());
}

#[test]
#[cfg(unix)]
fn one_socket_may_bring_the_config_and_take_the_picture() {
    use std::{
        io::{Read, Write},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };
    let tiny = Tiny::quick();
    let (mut near, far) = UnixStream::pair().unwrap();
    let stream = |far: &UnixStream| Stdio::from(OwnedFd::from(far.try_clone().unwrap()));
    let mut run = tiny.command(&["txt2img", "--config", "-", "--output", "-"]);
    let mut child = run.stdin(stream(&far)).stdout(stream(&far)).stderr(Stdio::null()).spawn().unwrap();
    drop((run, far));
    near.write_all(&fs::read(tiny.path("flux.toml")).unwrap()).unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    let mut png = Vec::new();
    near.read_to_end(&mut png).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn a_picture_can_go_to_standard_output() {
    let tiny = Tiny::quick();
    let ran = tiny.command(&["txt2img", "--config", "flux.toml", "--output", "-"]).output().unwrap();
    assert!(ran.status.success());
    tiny.txt2img(&["--output", "a.png"]).done();
    assert!(ran.stdout == fs::read(tiny.path("a.png")).unwrap());
    assert!(!tiny.path("-").exists());
    tiny.txt2img(&["--output", "-", "--json"]).refused_in_json(2, "together with `--json`");
    tiny.txt2img(&["--output", "-", "--batch", "2"]).refused(2, &["standard output takes one picture"]);
}

#[test]
#[cfg(unix)]
fn no_words_stand_among_the_bytes_of_a_picture() {
    let tiny = Tiny::quick();
    let run = |out: Stdio, err: Stdio| {
        let mut run = tiny.command(&["txt2img", "--config", "flux.toml", "--output", "-"]);
        wait(&mut run.stdout(out).stderr(err).spawn().unwrap()).code()
    };
    let file = |name: &str| fs::OpenOptions::new().append(true).create(true).open(tiny.path(name)).unwrap();
    let both = file("both");
    assert_eq!(run(both.try_clone().unwrap().into(), both.into()), Some(2));
    assert_eq!(run(file("twice").into(), file("twice").into()), Some(2));
    for name in ["both", "twice"] {
        let told = fs::read_to_string(tiny.path(name)).unwrap();
        assert!(told.contains("where standard error goes to the same place"), "{told}");
    }
    assert_eq!(run(Stdio::null(), Stdio::null()), Some(0));
    assert_eq!(run(file("out").into(), file("err").into()), Some(0));
    assert!(fs::read(tiny.path("out")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_name_says_the_format_and_every_format_says_how_the_picture_was_made() {
    let tiny = Tiny::quick();
    let prompt = ["--prompt", "an owl, \"Ölfarbe\",\n獅子 🦉", "--seed", "7"];
    tiny.txt2img(&[&prompt[..], &["--output", "a.png"]].concat()).done();
    let (text, png) = (read_infotext(&tiny.path("a.png")).unwrap(), tiny.path("a.png"));
    for (name, start) in [("a.webp", &b"RIFF"[..]), ("a.jpg", b"\xff\xd8\xff"), ("b.JPEG", b"\xff\xd8\xff")] {
        let ran = tiny.txt2img(&[&prompt[..], &["--output", name]].concat()).done();
        assert!(ran.err.contains(name), "{ran:?}");
        assert!(fs::read(tiny.path(name)).unwrap().starts_with(start), "{name}");
        assert_eq!(read_infotext(&tiny.path(name)).unwrap(), text, "{name}");
    }
    // a JPEG's quality is how large it is
    let size = |name: &str| tiny.path(name).metadata().unwrap().len();
    tiny.txt2img(&[&prompt[..], &["--quality", "10", "--output", "low.jpg"]].concat()).done();
    assert!(size("low.jpg") < size("a.jpg"));
    // and the file is the same however often it is written
    for name in ["a.webp", "a.jpg", "a.png"] {
        let before = fs::read(tiny.path(name)).unwrap();
        tiny.txt2img(&[&prompt[..], &["--output", name]].concat()).done();
        assert!(fs::read(tiny.path(name)).unwrap() == before, "{name}");
    }
    assert!(png.exists());
}

#[test]
fn a_text_that_a_jpeg_has_no_room_for_is_told_before_the_work() {
    let tiny = Tiny::quick();
    let long = "cat ".repeat(8_200);
    let draw = |name: &str| tiny.txt2img(&["--prompt", &long, "--output", name]);
    draw("a.jpg").refused(2, &["`image.output` is a JPEG, which holds 65479 bytes of text", "name a PNG or a WebP"]);
    draw("a.webp").done();
}

#[test]
fn formats_that_are_not_written_are_told_as_such() {
    let tiny = Tiny::quick();
    for (name, format) in [("a.avif", "AVIF"), ("a.JXL", "JPEG XL"), ("a.bmp", "BMP"), ("a.tiff", "TIFF")] {
        let words = [&format!("{format} is not written"), "ends in `.png`, `.jpg`, `.jpeg` or `.webp`"];
        tiny.txt2img(&["--output", name]).refused(2, &words);
    }
}

#[test]
fn a_home_folder_is_filled_in_and_what_is_no_path_is_refused() {
    let tiny = own();
    let run = |args: &[&str]| {
        let all = [&["txt2img", "--config", "flux.toml"], args].concat();
        let ran = tiny.command(&all).env("HOME", tiny.path("home")).output().unwrap();
        Ran::of(ran, &all)
    };
    fs::create_dir(tiny.path("home")).unwrap();
    fs::copy(tiny.role("clip"), tiny.path("home/clip.safetensors")).unwrap();
    run(&["--clip", "~/clip.safetensors", "--output", "~/x.png"]).done();
    assert!(tiny.path("home/x.png").is_file() && !tiny.path("~").exists());
    for (flag, value, says) in [
        ("--clip", "file:///models/clip.safetensors", "which is an address"),
        ("--clip", "https://example.org/clip.safetensors", "which is an address"),
        ("--clip", "$HOME/clip.safetensors", "a path with a variable in it"),
        ("--clip", "${HOME}/clip.safetensors", "a path with a variable in it"),
        ("--t5", "~somebody/t5.safetensors", "somebody's home folder"),
        ("--folder", "black-forest-labs/FLUX.1-dev", "looks like the name of a model on a hub"),
        ("--output", "$HOME/x.png", "a path with a variable in it"),
        ("--output", "file:///x.png", "which is an address"),
        ("--dump", "$HOME/x.safetensors", "a path with a variable in it"),
        ("--noise", "$HOME/n.safetensors", "a path with a variable in it"),
        ("--prompt-file", "$HOME/p.txt", "a path with a variable in it"),
    ] {
        run(&[flag, value]).refused(2, &[says, "hint: "]);
    }
    // and in a config the same
    for (line, says) in [
        ("[model]\nfolder = \"~nobody/flux\"", "somebody's home folder"),
        ("[model]\nclip = \"file:///x.safetensors\"", "which is an address"),
        ("[image]\noutput = \"$HOME/x.png\"", "a path with a variable in it"),
    ] {
        tiny.write("bad.toml", line);
        tiny.forge(&["txt2img", "--config", "bad.toml"]).refused(2, &[says]);
    }
    for command in ["inspect", "info"] {
        tiny.forge(&[command, "https://example.org/x"]).refused(2, &["which is an address"]);
    }
}

#[test]
fn configs_and_prompts_come_from_files_pipes_and_standard_input() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--prompt", "a cat", "--output", "a.png"]).done();
    let expected = fs::read(tiny.path("a.png")).unwrap();
    let shell = |script: &str| {
        let forge = env!("CARGO_BIN_EXE_forge");
        let mut child = Command::new("bash")
            .args(["-c", &script.replace("forge", forge)])
            .current_dir(tiny.path(""))
            .env("XDG_CACHE_HOME", "")
            .spawn()
            .unwrap();
        assert!(wait(&mut child).success(), "{script}");
        let drawn = fs::read(tiny.path("b.png")).unwrap();
        assert!(drawn == expected, "{script}");
        fs::remove_file(tiny.path("b.png")).unwrap();
    };
    tiny.write("words.txt", "a cat\n");
    tiny.write("dos.txt", "a cat\r\n");
    shell("forge txt2img --config - --prompt 'a cat' --output b.png < flux.toml");
    shell("cat flux.toml | forge txt2img --config - --prompt 'a cat' --output b.png");
    shell("forge txt2img --config <(cat flux.toml) --prompt 'a cat' --output b.png");
    shell("forge txt2img --config flux.toml --prompt-file words.txt --output b.png");
    shell("forge txt2img --config flux.toml --prompt-file dos.txt --output b.png");
    shell("printf 'a cat' | forge txt2img --config flux.toml --prompt-file - --output b.png");
    tiny.txt2img(&["--prompt-file", "words.txt", "--prompt", "a dog"]).refused(2, &["cannot be used with"]);
    let twice = ["txt2img", "--config", "-", "--prompt-file", "-"];
    tiny.forge(&twice).refused(2, &["standard input can be read once, and --config and --prompt-file ask for it"]);
    tiny.txt2img(&["--prompt-file", "none.txt"]).refused(2, &["cannot read the prompt `none.txt`", "No such file"]);
}

#[test]
fn texts_are_bounded() {
    let tiny = Tiny::quick();
    let sparse = fs::File::create(tiny.path("huge.toml")).unwrap();
    sparse.set_len(64 << 30).unwrap();
    tiny.forge(&["txt2img", "--config", "huge.toml"])
        .refused(2, &["cannot read config `huge.toml`", "longer than 98304 bytes"]);
    tiny.txt2img(&["--prompt-file", "huge.toml"]).refused(2, &["cannot read the prompt `huge.toml`", "longer than"]);
    tiny.write("long.txt", "cat ".repeat(17_000));
    tiny.txt2img(&["--prompt-file", "long.txt"])
        .refused(2, &["cannot read the prompt `long.txt`", "longer than 65536 bytes"]);
    tiny.write("long.toml", format!("[prompt]\npositive = \"{}\"", "cat ".repeat(17_000)));
    tiny.forge(&["txt2img", "--config", "long.toml"])
        .refused(2, &["the prompt is 68000 bytes long, expected at most 65536 bytes"]);
    tiny.forge(&["txt2img", "--config", "/dev/zero"]).refused(2, &["this is neither a file nor a pipe"]);
    // What the kernel makes up while it is read counts as empty, and is not waited for.
    tiny.forge(&["txt2img", "--config", "/proc/kmsg", "--output", "a.png"])
        .refused(2, &["names no `model.transformer`"]);
    let path = golden("tiny-dev").display().to_string();
    tiny.forge(&["txt2img", "--config", &path]).refused(2, &["this is a folder", "hint: give the config file"]);
}

#[test]
fn a_stream_that_is_a_file_is_as_safe_as_a_file() {
    let tiny = Tiny::quick();
    let config = fs::read(tiny.path("flux.toml")).unwrap();
    tiny.write("c.png", &config);
    tiny.write("words.txt", "a cat");
    let run = |script: &str| {
        let forge = env!("CARGO_BIN_EXE_forge");
        let script = script.replace("forge", forge);
        Ran::of(Command::new("bash").args(["-c", &script]).current_dir(tiny.path("")).output().unwrap(), &[&script])
    };
    // what comes in by standard input is read, and what standard output and error go to is written
    for script in [
        "forge txt2img --config - --output c.png < c.png",
        "forge txt2img --config flux.toml --prompt-file - --dump words.txt < words.txt",
        "forge txt2img --config flux.toml --output - --dump q > q",
        "forge txt2img --config flux.toml --prompt-file words.txt --output - 1<> words.txt",
        "forge txt2img --config flux.toml --prompt-file words.txt --output - >> words.txt",
        "forge txt2img --config flux.toml --output - --dump /dev/stdout > q",
        "forge txt2img --config flux.toml --output a.png --dump /proc/self/fd/1 > q; cat q >&2; exit 2",
        "forge txt2img --config flux.toml --output a.png --dump q 2> q; cat q >&2; exit 2",
        "forge txt2img --config flux.toml --output q.png --json > q.png; cat q.png >&2; exit 2",
    ] {
        let ran = run(script);
        assert!(ran.code == Some(2) && ran.err.contains("would replace `"), "{ran:?}");
    }
    assert!(fs::read(tiny.path("c.png")).unwrap() == config);
    assert_eq!(fs::read_to_string(tiny.path("words.txt")).unwrap(), "a cat");
    // a picture that nobody takes is told, and so are events that got lost
    let ran = run("forge txt2img --config flux.toml --output - 1< words.txt");
    assert!(ran.code == Some(1) && ran.err.contains("cannot write `standard output`"), "{ran:?}");
    if cfg!(target_os = "linux") {
        let ran = run("forge txt2img --config flux.toml --output a.png --json > /dev/full");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(tiny.path("a.png").is_file());
    }
    tiny.txt2img(&["--dump", "-"]).refused(2, &["`--dump` is `-`, expected a file"]);
    assert!(!tiny.path("-").exists());
}

#[test]
fn names_of_other_systems_and_programs_make_no_odd_files() {
    let tiny = Tiny::quick();
    let before = contents(&tiny.path(""));
    for (name, says) in [
        ("C:\\x\\y.png", "a path of Windows"),
        ("D:/x/y.png", "a path of Windows"),
        ("~\\x.png", "a path of Windows"),
        ("~+/x.png", "somebody's home folder"),
        ("%date%.png", "what other programs fill in is not"),
        ("%date:yyyy%.png", "what other programs fill in is not"),
        ("a/[seed].png", "what other programs fill in is not"),
    ] {
        tiny.txt2img(&["--output", name]).refused(2, &[says]);
        assert!(contents(&tiny.path("")) == before, "{name}");
    }
}
