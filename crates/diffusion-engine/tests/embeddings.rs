//! The files of textual inversions, and the vectors that each text encoder gets of them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Error as WeightError, Format, Manifest, Stored, WeightSource, values};
use diffusion_engine::{ClipTokenizer, Embedding, Embeddings, Error, Filling, Piece, chunked};

/// Tensors by name, whose values count up from the tensor's place.
struct File(Vec<(&'static str, Vec<usize>)>, Manifest);

impl File {
    fn of(tensors: &[Named]) -> Self {
        let manifest = tensors.iter().map(|(name, shape)| (*name, Format::F32, shape.to_vec())).collect();
        Self(tensors.iter().map(|(name, shape)| (*name, shape.to_vec())).collect(), manifest)
    }
}

impl WeightSource for File {
    fn label(&self) -> &str {
        "`x.pt`"
    }

    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn read(&self, name: &str) -> Result<Stored, WeightError> {
        let place = self.0.iter().position(|(n, _)| *n == name);
        let missing = || WeightError::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let (place, shape) = place.map(|place| (place, self.0[place].1.clone())).ok_or_else(missing)?;
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (100 * place + i) as f32).collect();
        Ok(Stored::of(&values, shape))
    }
}

/// A tensor's name and shape.
type Named<'a> = (&'static str, &'a [usize]);

fn read(tensors: &[Named]) -> Result<Embedding, Error> {
    Embedding::read("x", &File::of(tensors))
}

#[test]
fn every_kind_of_file_gives_its_vectors() {
    let all: &[(&[Named], usize)] = &[
        (&[("emb_params", &[2, 3])], 2),
        (&[("string_to_param.*", &[2, 3])], 2),
        (&[("string_to_param.*", &[1, 3]), ("string_to_token.*", &[1])], 1),
        (&[("<cat-toy>", &[3])], 1),
        (&[("<cat-toy>", &[4, 3])], 4),
        (&[("clip_g", &[2, 5]), ("clip_l", &[2, 3])], 2),
        (&[("text_encoders_0", &[2, 3]), ("text_encoders_1", &[2, 5])], 2),
        (&[("clip_l", &[2, 3]), ("clip_g", &[2, 5]), ("t5xxl", &[2, 8])], 2),
    ];
    for (tensors, count) in all {
        let embedding = read(tensors).unwrap();
        assert_eq!(embedding.count(), *count, "{tensors:?}");
        let vectors = embedding.vectors("clip_l", 3, &Device::flex()).unwrap();
        assert_eq!(vectors.dims(), [*count, 3], "{tensors:?}");
        let place = tensors.iter().position(|(_, shape)| shape.last() == Some(&3)).unwrap();
        assert_eq!(values(&vectors)[..3], [0.0, 1.0, 2.0].map(|value| 100.0 * place as f32 + value), "{tensors:?}");
    }
}

#[test]
fn each_encoder_gets_its_own_vectors_and_no_others() {
    // of one width, the name decides
    let both = read(&[("clip_g", &[1, 3]), ("clip_l", &[1, 3])]).unwrap();
    let first = |encoder| values(&both.vectors(encoder, 3, &Device::flex()).unwrap())[0];
    assert_eq!((first("clip_g"), first("clip_l")), (0.0, 100.0));
    // where the file names none, the width does
    let one = read(&[("emb_params", &[2, 3])]).unwrap();
    assert!(one.vectors("clip_h", 3, &Device::flex()).is_ok());
    let wrong = one.vectors("clip_g", 5, &Device::flex()).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "the textual inversion `x` has vectors of [3] numbers, the text encoder `clip_g` needs 5"
    );
    assert!(both.vectors("clip_h", 3, &Device::flex()).is_err());
}

#[test]
fn other_files_are_refused_by_name() {
    for tensors in
        [&[][..], &[("a", &[3][..]), ("b", &[3])], &[("string_to_param.*", &[1, 3]), ("string_to_param.b", &[1, 3])]]
    {
        let error = read(tensors).unwrap_err();
        assert!(matches!(&error, Error::NotAnEmbedding { .. }), "{error}");
        assert_eq!(error.to_string(), "`x.pt` is not one textual inversion: `x` can't be used");
    }
    for tensors in [
        &[("emb_params", &[][..])][..],
        &[("emb_params", &[0])],
        &[("emb_params", &[0, 3])],
        &[("emb_params", &[1, 0])],
        &[("emb_params", &[1, 2, 3])],
        &[("clip_l", &[1, 3]), ("clip_g", &[2, 5])],
    ] {
        let error = read(tensors).unwrap_err();
        assert!(matches!(error, Error::EmbeddingShape { .. }), "{error}");
    }
}

#[test]
fn a_chunk_gives_the_encoder_its_vectors_at_their_places() {
    let tokenizer = ClipTokenizer::new().unwrap();
    let known = Embeddings::of(&tokenizer, vec![read(&[("clip_l", &[2, 3]), ("clip_g", &[2, 5])]).unwrap()]).unwrap();
    let pieces = [Piece::Words { text: "a cat x".into(), weight: 1.3 }];
    let chunks = chunked(&tokenizer, &pieces, &known, ClipTokenizer::TEXT).unwrap();
    for (encoder, width, filling) in [("clip_l", 3, Filling::End), ("clip_g", 5, Filling::Zero)] {
        let tokens = chunks[0].tokens(filling, encoder, width, &Device::flex()).unwrap();
        assert_eq!(tokens.ids[..6], [ClipTokenizer::START, 320, 2368, 0, 0, ClipTokenizer::END]);
        let [(at, vectors)] = &tokens.vectors[..] else { panic!("{encoder}") };
        assert_eq!((*at, vectors.dims()), (3, [2, width]));
    }
    assert_eq!(chunks[0].weights()[..6], [1.0, 1.3, 1.3, 1.3, 1.3, 1.0]);
    assert!(matches!(
        chunks[0].tokens(Filling::End, "clip_l", 4, &Device::flex()),
        Err(Error::EmbeddingWidth { expected: 4, .. })
    ));
    // The latter of two with one name is the one that counts.
    let again = read(&[("emb_params", &[4, 3])]).unwrap();
    let known = Embeddings::of(&tokenizer, vec![read(&[("emb_params", &[1, 3])]).unwrap(), again]).unwrap();
    let chunks = chunked(&tokenizer, &pieces, &known, ClipTokenizer::TEXT).unwrap();
    assert_eq!(chunks[0].inversions().map(|(_, embedding)| embedding.count()).collect::<Vec<_>>(), [4]);
}
