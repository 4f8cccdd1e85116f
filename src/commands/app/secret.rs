//! New secrets, and how they are handed over.

use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::super::new_file::{self, FileAccess};
use super::{AppError, Print};

/// The length of a secret in bytes, before it is written in hexadecimal.
const SECRET_BYTES: usize = 32;

/// Hands over a secret. Returns the file that was created for it.
pub(super) fn deliver(
    secret: &str,
    secret_file: Option<&Path>,
    print: Print,
) -> Result<Option<PathBuf>, AppError> {
    let Some(path) = secret_file else {
        let mut line = Zeroizing::new(String::with_capacity(secret.len() + 1));
        line.push_str(secret);
        line.push('\n');
        print(line.as_bytes()).map_err(AppError::Stdout)?;
        return Ok(None);
    };
    let created = new_file::create(path, &[secret.as_bytes(), b"\n"], FileAccess::private());
    created.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            AppError::SecretFileExists(path.to_owned())
        } else {
            AppError::write(path, source, path)
        }
    })?;
    Ok(Some(path.to_owned()))
}

/// Returns a new secret, in hexadecimal as Domo's are.
pub(super) fn new_secret() -> Result<Zeroizing<String>, AppError> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    fill_random(bytes.as_mut_slice())?;
    Ok(hex(bytes.as_slice()))
}

/// Returns a part of a file's name that no other run uses.
pub(super) fn unique_name() -> Result<String, AppError> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(hex(&bytes).to_string())
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), AppError> {
    let filled = SystemRandom::new().fill(bytes);
    filled.map_err(|_| AppError::NoRandomBytes)
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    // It never grows, so that no copy is left in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}
