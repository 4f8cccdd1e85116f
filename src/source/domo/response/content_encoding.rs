//! Removes content codings such as gzip from a body, within the bound and as far as it is complete.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use zeroize::Zeroizing;

use super::super::MAX_BODY;

/// The most nested codings of a body.
pub(in super::super) const MAX_CODINGS: usize = 4;

/// The most members of a gzip file; each takes time even if it is short.
pub(in super::super) const MAX_MEMBERS: usize = 16;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A body without its content codings.
pub(super) struct Decoded<'a> {
    received: &'a [u8],
    plain: Option<Zeroizing<Vec<u8>>>,
    pub(super) end: End,
}

impl Decoded<'_> {
    /// Returns what could be decoded.
    pub(super) fn bytes(&self) -> &[u8] {
        self.plain.as_ref().map_or(self.received, |bytes| bytes)
    }
}

/// How a decoded body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// The compressed body is incomplete.
    Cut,
    /// It is longer than [`MAX_BODY`].
    TooLong,
    /// The body does not match `Content-Encoding`.
    Corrupt,
    /// A coding that is not supported.
    Unsupported(String),
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
}

/// Returns the body without the codings of `Content-Encoding`, and without gzip if a proxy has removed that header. A body
/// that is JSON has none, even if the header names some.
pub(super) fn decode<'a>(headers: &HeaderMap, body: &'a [u8]) -> Decoded<'a> {
    let mut result = Decoded {
        received: body,
        plain: None,
        end: End::Whole,
    };
    if is_json(body) {
        return result;
    }
    let mut codings = match codings(headers) {
        Ok(codings) => codings,
        Err(name) => {
            return Decoded {
                received: &[],
                plain: None,
                end: End::Unsupported(name),
            };
        }
    };
    for _ in 0..MAX_CODINGS {
        let bytes = result.bytes();
        let unnamed = bytes.starts_with(&GZIP_MAGIC).then_some(Coding::Gzip);
        let Some(coding) = codings.pop().or(unnamed) else {
            break;
        };
        // A proxy may have decoded one of them and kept the header.
        if is_json(bytes) {
            continue;
        }
        let (plain, end) = match coding {
            Coding::Gzip => gunzip(bytes),
            Coding::Deflate => inflate(bytes),
        };
        (result.plain, result.end) = (Some(plain), end);
        if result.end != End::Whole {
            break;
        }
    }
    result
}

/// Returns the codings in the order in which they were applied, or the first that is not supported.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim) {
            match &*name.to_ascii_lowercase() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                _ => return Err(name.to_owned()),
            }
        }
    }
    if codings.len() > MAX_CODINGS {
        return Err(format!("{} times", codings.len()));
    }
    Ok(codings)
}

fn is_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = bytes.trim_ascii_start().first();
    first == Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Decodes all members of a gzip file (RFC 1952 §2.2).
fn gunzip(bytes: &[u8]) -> (Zeroizing<Vec<u8>>, End) {
    let mut plain = Zeroizing::new(Vec::new());
    let mut rest = bytes;
    for _ in 0..MAX_MEMBERS {
        if !rest.starts_with(&GZIP_MAGIC) && !GZIP_MAGIC.starts_with(rest) {
            return (plain, End::Corrupt);
        }
        let mut decoder = GzDecoder::new(rest);
        let end = read_all(&mut decoder, &mut plain);
        rest = decoder.into_inner();
        if end != End::Whole || rest.iter().all(|byte| *byte == 0) {
            return (plain, end);
        }
    }
    (plain, End::Corrupt)
}

/// Decodes deflate with the zlib header of the standard, or without it, as some servers send it.
fn inflate(bytes: &[u8]) -> (Zeroizing<Vec<u8>>, End) {
    let mut plain = Zeroizing::new(Vec::new());
    let end = if has_zlib_header(bytes) {
        read_all(ZlibDecoder::new(bytes), &mut plain)
    } else {
        read_all(DeflateDecoder::new(bytes), &mut plain)
    };
    (plain, end)
}

/// Returns whether this starts with a header of RFC 1950 §2.2.
fn has_zlib_header(bytes: &[u8]) -> bool {
    let Some([method, flags]) = bytes.first_chunk() else {
        return false;
    };
    let check = u16::from(*method) * 256 + u16::from(*flags);
    method & 0x0f == 8 && check % 31 == 0
}

/// Appends the decoder's output, up to the bound.
fn read_all(mut decoder: impl Read, plain: &mut Zeroizing<Vec<u8>>) -> End {
    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let count = match decoder.read(&mut *chunk) {
            Ok(0) => return End::Whole,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return End::Cut,
            Err(_) => return End::Corrupt,
        };
        if plain.len() + count > MAX_BODY {
            return End::TooLong;
        }
        plain.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const BOM: &[u8] = b"\xef\xbb\xbf";

    const JSON: &[u8] = br#"{"access_token":"abc","expires_in":3599}"#;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(codings: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, coding.parse().unwrap());
        }
        headers
    }

    fn decoded(codings: &[&str], body: &[u8]) -> (Vec<u8>, End) {
        let decoded = decode(&headers(codings), body);
        (decoded.bytes().to_vec(), decoded.end)
    }

    #[test]
    fn body_is_decoded_from_every_coding_that_curl_reads() {
        let twice = [gzip(&JSON[..7]), gzip(&JSON[7..]), vec![0; 9]].concat();
        let cases: &[(&[&str], Vec<u8>)] = &[
            (&[], JSON.to_vec()),
            (&["identity"], JSON.to_vec()),
            (&[""], JSON.to_vec()),
            (&["gzip"], gzip(JSON)),
            (&["X-GZIP"], gzip(JSON)),
            (&["gzip"], twice),
            (&["deflate"], zlib(JSON)),
            (&["deflate"], raw(JSON)),
            (&["deflate, gzip"], gzip(&zlib(JSON))),
            (&["deflate", "identity,gzip"], gzip(&raw(JSON))),
            (&["gzip, gzip"], gzip(&gzip(JSON))),
            (&[], gzip(JSON)),
            (&[], gzip(&gzip(JSON))),
            (&["deflate"], zlib(&gzip(JSON))),
            (&["gzip"], JSON.to_vec()),
            (&["deflate"], JSON.to_vec()),
            (&["deflate, gzip"], gzip(JSON)),
            (&["br"], JSON.to_vec()),
            (&["none"], JSON.to_vec()),
            (&["gzip, UTF-8"], JSON.to_vec()),
            (&["binary"], [BOM, JSON].concat()),
        ];
        for (codings, body) in cases {
            let plain = if body.starts_with(BOM) { body } else { JSON };
            let expected = (plain.to_vec(), End::Whole);
            assert_eq!(decoded(codings, body), expected, "{codings:?} {body:?}");
        }
    }

    #[test]
    fn coding_that_is_not_supported_is_named() {
        for (codings, named) in [
            (&["br"][..], "br"),
            (&["gzip, zstd"], "zstd"),
            (&["gzip", "compress"], "compress"),
            (&["gzip,gzip,gzip,gzip,gzip"], "5 times"),
        ] {
            let expected = (Vec::new(), End::Unsupported(named.to_owned()));
            assert_eq!(decoded(codings, b"\x8b\x13\x80"), expected);
        }
    }

    #[test]
    fn compressed_body_that_breaks_off_is_decoded_as_far_as_it_goes() {
        let long: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        for (codings, whole) in [
            (&["gzip"][..], gzip(&long)),
            (&[], gzip(&long)),
            (&["deflate"], zlib(&long)),
            (&["deflate"], raw(&long)),
        ] {
            let (bytes, end) = decoded(codings, &whole[..whole.len() / 2]);
            assert_eq!(end, End::Cut, "{codings:?}");
            assert!(!bytes.is_empty() && long.starts_with(&bytes));
            let (bytes, end) = decoded(codings, &whole[..whole.len() - 1]);
            assert_eq!(end, End::Cut, "{codings:?}: without its end");
            assert!(long.starts_with(&bytes));
        }
    }

    #[test]
    fn body_that_is_not_what_its_header_says_is_corrupt() {
        let mut checksum = gzip(JSON);
        let end = checksum.len();
        checksum[end - 8] ^= 1;
        let footer = [gzip(JSON), b"<!-- scanned -->".to_vec()].concat();
        let many = gzip(b"").repeat(MAX_MEMBERS + 1);
        for (codings, body) in [
            (&["gzip"][..], b"<html>".to_vec()),
            (&["deflate"], b"\xff\xff\xff".to_vec()),
            (&["gzip"], checksum),
            (&["gzip"], footer),
            (&["gzip"], many),
        ] {
            assert_eq!(decoded(codings, &body).1, End::Corrupt, "{codings:?}");
        }
    }

    #[test]
    fn decoded_body_is_limited_after_each_coding() {
        let most = vec![b' '; MAX_BODY];
        let more = vec![b' '; MAX_BODY + 1];
        let bomb = gzip(&vec![0; 16 * MAX_BODY]);
        assert!(bomb.len() < MAX_BODY);
        for (codings, body, end) in [
            (&["gzip"][..], gzip(&most), End::Whole),
            (&["gzip"], gzip(&more), End::TooLong),
            (&["deflate"], zlib(&more), End::TooLong),
            (&["deflate"], raw(&more), End::TooLong),
            (&["gzip"], [gzip(&most), gzip(b"x")].concat(), End::TooLong),
            (&["gzip"], bomb.clone(), End::TooLong),
            (&["gzip, gzip"], gzip(&bomb), End::TooLong),
            (&[], gzip(&bomb), End::TooLong),
        ] {
            let (bytes, found) = decoded(codings, &body);
            assert_eq!(found, end, "{codings:?}");
            assert!(bytes.len() <= MAX_BODY);
        }
    }

    proptest! {
        #[test]
        fn decoded_body_never_exceeds_the_limit_and_gzip_round_trips(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            start in 0..4_usize,
        ) {
            prop_assume!(!bytes.starts_with(&GZIP_MAGIC) && !is_json(&gzip(&bytes)));
            prop_assert_eq!(decoded(&["gzip"], &gzip(&bytes)), (bytes.clone(), End::Whole));
            let prefix: &[u8] = [&b""[..], &GZIP_MAGIC, &[0x1f, 0x8b, 8, 0], &[0x78, 0x9c]][start];
            let odd = [prefix, &bytes].concat();
            for codings in [&[][..], &["gzip"], &["deflate"], &["deflate, gzip"]] {
                prop_assert!(decoded(codings, &odd).0.len() <= MAX_BODY);
            }
        }
    }
}
