//! Passwords: how they are hashed and checked (argon2id, RFC 9106, as PHC strings).
//!
//! Guarantees: to check one takes the same work whether it is right or not, whether
//! there is somebody of that name or not, and whether the hash can be read or not. A
//! hash from elsewhere takes at most 64 MiB, and a bounded time; one that would take
//! more is as one that nothing matches.

use std::sync::OnceLock;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::Deserialize;

/// Memory of a hash that is made here, in KiB, and how often it is gone through: what
/// OWASP advises.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The most of a hash that was made elsewhere.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;

/// Lengths of a password, in bytes.
const BYTES_MIN: usize = 8;
const BYTES_MAX: usize = 1024;

/// The length of a hash that is stored, in bytes.
pub(super) const HASH_BYTES_MAX: usize = 1024;

/// A password, or the hash of one: it belongs into no log.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a password, or a hash of one, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is too short or too long.
    #[error("a password has 8 to 1024 bytes: choose another one")]
    Length,
    /// It is no hash of this kind.
    #[error("password_hash: give one of argon2id, as a PHC string: $argon2id$v=19$...: {0}")]
    Hash(String),
    /// Checking it would take too much.
    #[error("password_hash: at most m=65536, t=10 and p=4 are taken")]
    Cost,
    /// It could not be made.
    #[error("the password could not be hashed: {0}: try again")]
    Failed(String),
}

/// The hash of a password, with a salt of its own.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&password.len()) {
        return Err(PasswordError::Length);
    }
    hash_any(password).map_err(|error| PasswordError::Failed(error.to_string()))
}

fn hash_any(password: &str) -> argon2::password_hash::Result<String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    let salt = SaltString::encode_b64(uuid::Uuid::new_v4().as_bytes())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes(), &salt)?;
    Ok(hash.to_string())
}

/// Whether a password is the one that was hashed.
pub fn verify(password: &str, phc: &str) -> bool {
    let parsed = match parse(phc) {
        Ok(parsed) if password.len() <= BYTES_MAX => parsed,
        _ => {
            verify_nobody(password);
            return false;
        }
    };
    is_of(password, &parsed)
}

/// Takes as long as to check a password, for somebody who is not there.
pub fn verify_nobody(password: &str) {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let nobody = NOBODY.get_or_init(|| hash_any("nobody").unwrap_or_default());
    if let Ok(parsed) = parse(nobody) {
        let most = password.len().min(BYTES_MAX);
        std::hint::black_box(is_of(&password.as_bytes()[..most], &parsed));
    }
}

/// The work alone: the memory, the passes and the lanes are those of the hash.
fn is_of(password: impl AsRef<[u8]>, hash: &PasswordHash<'_>) -> bool {
    let argon2 = Argon2::default();
    argon2.verify_password(password.as_ref(), hash).is_ok()
}

/// Fails if nothing could match a hash that was made elsewhere.
pub fn check(phc: &str) -> Result<(), PasswordError> {
    parse(phc).map(drop)
}

fn parse(phc: &str) -> Result<PasswordHash<'_>, PasswordError> {
    let wrong = |why: &dyn std::fmt::Display| PasswordError::Hash(why.to_string());
    if phc.len() > HASH_BYTES_MAX {
        return Err(wrong(&"it is too long"));
    }
    let parsed = PasswordHash::new(phc).map_err(|error| wrong(&error))?;
    if parsed.algorithm != Algorithm::Argon2id.ident() {
        return Err(wrong(&format!("it is of {}", parsed.algorithm)));
    }
    let version = parsed.version.map(Version::try_from);
    if !matches!(version, Some(Ok(_))) {
        return Err(wrong(&"it is of no known version"));
    }
    let mut salt = [0; Salt::MAX_LENGTH];
    let salt = parsed.salt.map(|text| text.decode_b64(&mut salt));
    let salt = salt.transpose().map_err(|error| wrong(&error))?;
    if parsed.hash.is_none() || salt.is_none_or(|salt| salt.len() < argon2::MIN_SALT_LEN) {
        return Err(wrong(&"it has no hash, or no salt, or a short one"));
    }
    let params = Params::try_from(&parsed).map_err(|error| wrong(&error))?;
    let is_bounded = params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= PASSES_MAX
        && params.p_cost() <= LANES_MAX;
    match is_bounded {
        true => Ok(parsed),
        false => Err(PasswordError::Cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hashed = hash("correct horse").unwrap();
        assert!(
            hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashed}"
        );
        assert_ne!(hash("correct horse").unwrap(), hashed);
        assert!(verify("correct horse", &hashed));
        check(&hashed).unwrap();
        for wrong in ["correct horsf", "", "correct horse\0", &"x".repeat(2000)] {
            assert!(!verify(wrong, &hashed), "{wrong}");
        }
        verify_nobody("x");
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(hash("seven77"), Err(PasswordError::Length));
        assert_eq!(hash(&"x".repeat(1025)), Err(PasswordError::Length));
        let longest = "x".repeat(1024);
        assert!(verify(&longest, &hash(&longest).unwrap()));
    }

    /// A hash that asks for 4 GiB is refused before anything is reserved.
    #[test]
    fn hashes_of_others_may_not_ask_for_much() {
        let rest = "c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG3rpUqWcrVtE";
        let cost = [
            "m=4194304,t=2,p=1",
            "m=65537,t=2,p=1",
            "m=64,t=11,p=1",
            "m=64,t=1,p=5",
            "m=4294967295,t=4294967295,p=1",
        ];
        for params in cost {
            let phc = format!("$argon2id$v=19${params}${rest}");
            assert_eq!(check(&phc), Err(PasswordError::Cost), "{phc}");
            assert!(!verify("password", &phc));
        }
        check(&format!("$argon2id$v=19$m=65536,t=10,p=4${rest}")).unwrap();
        let odd = [
            "",
            "password",
            &format!("$argon2i$v=19$m=64,t=2,p=1${rest}"),
            &format!("$argon2id$v=3$m=64,t=2,p=1${rest}"),
            "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA",
            "$argon2id$v=19$m=64,t=2,p=1",
            &format!("$argon2id$m=64,t=2,p=1${rest}"),
            "$argon2id$v=19$m=64,t=2,p=1$c2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG3rpUqWcrVtE",
            &format!(
                "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ${}",
                "A".repeat(2000)
            ),
        ];
        for phc in odd {
            assert!(!verify("password", phc), "{phc}");
            let error = check(phc).unwrap_err();
            assert!(matches!(error, PasswordError::Hash(_)), "{phc}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret("x".to_owned())), "Secret(..)");
    }
}
