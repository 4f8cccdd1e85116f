//! Derives keys: HKDF and HMAC with SHA-256, over parts that are joined so that they stay distinct.

use ring::hmac;
use zeroize::Zeroizing;

/// Joins parts so that no other parts give the same bytes: the length of each as `u16`, big-endian, and its bytes. No
/// part may have more than 65535 bytes.
pub(crate) fn enc(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| 2 + part.len()).sum();
    let mut joined = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        let [.., high, low] = part.len().to_be_bytes();
        joined.extend_from_slice(&[high, low]);
        joined.extend_from_slice(part);
    }
    joined
}

/// HKDF-SHA256 (RFC 5869) of 32 bytes, which are one block: two HMACs. `ring::hkdf` would return errors that cannot occur
/// at this length.
pub(crate) fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<Vec<u8>> {
    let prk = hmac_sha256(salt, &[ikm]);
    hmac_sha256(&prk, &[info, &[1]])
}

pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    Zeroizing::new(context.sign().as_ref().to_vec())
}
