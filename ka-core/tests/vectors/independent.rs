//! The same without the library: ciphers, keys, tags and signatures as `PROTOCOL.md` describes them.

use super::*;

/// Without the library: AES block by block as `PROTOCOL.md` describes it.
#[test]
fn the_keystreams_are_as_described() {
    for (context, name) in
        [("bytes", "payload-aes-bytes"), ("beginning", "payload-aes-begin"), ("end", "payload-aes-end")]
    {
        let about = [&SECRET[..], &1_u32.to_le_bytes()].concat();
        let key = blake3::derive_key(&format!("ka 1 {context} of a stream"), &about);
        let aes = aes::Aes256::new(&key.into());
        let blocks = (0..2_u128).flat_map(|i| {
            let mut block = i.to_be_bytes().into();
            aes.encrypt_block(&mut block);
            block
        });
        assert_eq!(vector(name), blocks.collect::<Vec<_>>());
    }
}

/// Without the library: the keys of links as `PROTOCOL.md` describes them.
#[test]
fn the_keys_of_links_are_as_described() {
    let derived = |context, key: &[u8], node: u32| {
        blake3::derive_key(context, &[key, &node.to_le_bytes()].concat()).to_vec()
    };
    let own = derived("ka 1 a node's data links", &counting::<32>(0x40), 2);
    assert_eq!(vector("link-own"), own);
    assert_eq!(vector("link-key"), derived("ka 1 data link", &own, 3));
}

/// Without the library: the tags as `PROTOCOL.md` describes them.
#[test]
fn the_tags_of_discovery_are_as_described() {
    let vector = |name| <[u8; 32]>::try_from(vector(name)).unwrap();
    let derived = |about: &[u8]| blake3::derive_key("ka 1 discovery", &[&token()[..], about].concat());
    assert_eq!(vector("discovery-secret"), derived(b"lab"));
    assert_eq!(vector("discovery-secret-nameless"), derived(b""));
    assert_eq!(
        vector("discovery-agreed"),
        server().diffie_hellman(&vector("discovery-asker").into()).to_bytes()
    );

    let tag = |key: &[u8; 32], about: &[&[u8]]| *blake3::keyed_hash(key, &about.concat()).as_bytes();
    for (name, key) in [("question", "discovery-secret"), ("question-passed-on", "discovery-secret-nameless")]
    {
        let value = &datagram(name)[10..];
        assert_eq!(value[..32], vector("discovery-asker"));
        assert_eq!(value[32..64], tag(&vector(key), &[b"question", &value[..32]]));
    }
    let value = &datagram("answer")[10..];
    assert_eq!(value[32..64], vector("discovery-server"));
    let key = tag(&vector("discovery-secret"), &[&vector("discovery-agreed")]);
    assert_eq!(value[83..115], tag(&key, &[b"answer", &value[..83]]));
}

/// The same without the library: the chain and the signatures as `PROTOCOL.md` describes them.
#[test]
fn the_chain_and_the_signatures_are_as_described() {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&vector("tape-key").try_into().unwrap()).unwrap();
    let mut chain = blake3::derive_key("ka tape v1", &SESSION.0);
    for (n, (name, statement)) in tape().into_iter().enumerate() {
        let body = vector(name);
        let (signature, content) = body.split_at(64);
        assert_eq!(Statement::decode(content, &PayloadKey::Plain, 0), Ok(statement));
        chain = *blake3::hash(&[&chain[..], content].concat()).as_bytes();
        assert_eq!(chain.to_vec(), vector(&format!("tape-chain-{}", n + 1)));
        let message = [&b"ka statement v1\0"[..], &SESSION.0, &chain].concat();
        assert_eq!(message.len(), 64);
        let signature = ed25519_dalek::Signature::from_slice(signature).unwrap();
        key.verify_strict(&message, &signature).unwrap();
    }
}
