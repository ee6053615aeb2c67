//! Profiles as bytes of a file.

use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{COMMAND_CHARS_MAX, Profile, SPANS_MAX, Step};
use crate::types::{BlockNo, Digest, SpanNo};

/// The largest file that is read: [`SPANS_MAX`] spans with the longest numbers.
pub const BYTES_MAX: u64 = 4 << 20;

/// How each file begins.
const BEGINNING: &[u8] = b"{\"distrofs_profile\":";

const VERSION: u32 = 1;

/// Why there is no profile in some bytes.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is something else.
    #[error("it is no start profile: move it away")]
    Foreign,
    /// Written by another version of the program.
    #[error("it has the version {0} of profiles, not {VERSION}: record it again")]
    Version(u32),
    /// It is too long to be one.
    #[error("it is longer than {BYTES_MAX} bytes: record it again")]
    TooLong,
    /// It was changed after it was written.
    #[error("it is damaged ({0}): record it again")]
    Damaged(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    distrofs_profile: u32,
    sha256: Digest,
    profile: Body,
}

#[derive(Deserialize)]
struct AnyVersion {
    distrofs_profile: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    image: Digest,
    span_count: u32,
    recorded_at: u64,
    command: Option<String>,
    spans: Vec<[u32; 4]>,
}

impl Body {
    fn digest(&self) -> Digest {
        use sha2::Digest as _;
        let text = serde_json::to_vec(self).unwrap_or_default();
        Digest::new(Sha256::digest(text).into())
    }
}

/// Whether a file that begins so was meant to be a profile, of whatever version.
pub fn is_profile(beginning: &[u8]) -> bool {
    beginning.starts_with(BEGINNING)
}

impl Profile {
    /// The bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let spans = self.steps.iter();
        let spans = spans.map(|step| [step.span.0, step.first.0, step.last.0, step.nth]);
        let profile = Body {
            image: self.image,
            span_count: self.span_count,
            recorded_at: self.recorded_at,
            command: self.command.clone(),
            spans: spans.collect(),
        };
        let file = File {
            distrofs_profile: VERSION,
            sha256: profile.digest(),
            profile,
        };
        let mut bytes = serde_json::to_vec(&file).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The profile in these bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Profile, ProfileError> {
        if bytes.len() as u64 > BYTES_MAX {
            return Err(ProfileError::TooLong);
        }
        if !is_profile(bytes) {
            return Err(ProfileError::Foreign);
        }
        let unreadable = |_| ProfileError::Damaged("it cannot be read");
        let AnyVersion { distrofs_profile } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if distrofs_profile != VERSION {
            return Err(ProfileError::Version(distrofs_profile));
        }
        let File {
            sha256, profile, ..
        } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if profile.digest() != sha256 {
            return Err(ProfileError::Damaged("its checksum is another one"));
        }
        profile.checked().map_err(ProfileError::Damaged)
    }
}

impl Body {
    fn checked(self) -> Result<Profile, &'static str> {
        if self.spans.is_empty() || self.spans.len() > SPANS_MAX {
            return Err("it has no or too many spans");
        }
        let is_long = |command: &String| command.chars().count() > COMMAND_CHARS_MAX;
        if self.command.as_ref().is_some_and(is_long) {
            return Err("its command is too long");
        }
        let steps: Vec<_> = self.spans.iter().map(step).collect();
        let ascend = |pair: &[Step]| {
            let [a, b] = pair else { return false };
            a.span < b.span && a.last < b.first
        };
        let all_ascend = steps.windows(2).all(ascend);
        let is_known = |step: &Step| step.first <= step.last && step.span.0 < self.span_count;
        if !all_ascend || !steps.iter().all(is_known) {
            return Err("its spans cannot be");
        }
        Ok(Profile {
            image: self.image,
            span_count: self.span_count,
            recorded_at: self.recorded_at,
            command: self.command,
            steps,
        })
    }
}

fn step(&[span, first, last, nth]: &[u32; 4]) -> Step {
    Step {
        span: SpanNo(span),
        first: BlockNo(first),
        last: BlockNo(last),
        nth,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Touched;
    use super::*;

    fn profile() -> Profile {
        let mut touched = Touched::default();
        for (span, block) in [(7, 115), (2, 32), (7, 118), (3, 48)] {
            touched.add(SpanNo(span), BlockNo(block));
        }
        let digest = Digest::new([0xab; 32]);
        Profile::new(digest, 90, 1_700_000_000, Some("python3 -c 'ä'"), &touched).unwrap()
    }

    /// The bytes of a file whose checksum is right.
    fn summed(change: impl Fn(&mut Body)) -> Vec<u8> {
        let mut file: File = serde_json::from_slice(&profile().to_bytes()).unwrap();
        change(&mut file.profile);
        file.sha256 = file.profile.digest();
        serde_json::to_vec(&file).unwrap()
    }

    #[test]
    fn bytes_and_back() {
        let bytes = profile().to_bytes();
        assert!(is_profile(&bytes) && bytes.ends_with(b"}\n"));
        assert_eq!(Profile::from_bytes(&bytes).unwrap(), profile());
        assert_eq!(Profile::from_bytes(&summed(|_| {})).unwrap(), profile());
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let bytes = profile().to_bytes();
        let text = bytes.len() - 1;
        for at in 0..text {
            assert!(Profile::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            for bit in [1, 4, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                let found = Profile::from_bytes(&changed);
                assert!(found.is_err(), "bit {bit} of {at}: {found:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_right_checksum() {
        let changes: [&dyn Fn(&mut Body); 8] = [
            &|body| body.spans.clear(),
            &|body| body.spans.reverse(),
            &|body| body.spans[1] = body.spans[0],
            &|body| body.spans[0][1] = body.spans[0][2] + 1,
            &|body| body.spans[0][2] = u32::MAX,
            &|body| body.spans[2][0] = 90,
            &|body| body.spans = vec![[1, 1, 1, 1]; SPANS_MAX + 1],
            &|body| body.command = Some("x".repeat(COMMAND_CHARS_MAX + 1)),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let found = Profile::from_bytes(&summed(change));
            assert!(
                matches!(found, Err(ProfileError::Damaged(_))),
                "{n}: {found:?}"
            );
        }
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        let of = |bytes: &[u8]| Profile::from_bytes(bytes);
        assert!(matches!(of(b""), Err(ProfileError::Foreign)));
        assert!(matches!(of(b"{\"a\":1}"), Err(ProfileError::Foreign)));
        let next = b"{\"distrofs_profile\":2,\"other\":[]}";
        assert!(matches!(of(next), Err(ProfileError::Version(2))));
        let long = usize::try_from(BYTES_MAX).unwrap() + 1;
        assert!(matches!(of(&vec![b' '; long]), Err(ProfileError::TooLong)));
    }

    #[test]
    fn the_largest_profile_can_be_read_again() {
        let spans = u32::try_from(SPANS_MAX).unwrap();
        let bytes = summed(|body| {
            body.span_count = u32::MAX;
            body.command = Some("\u{1}".repeat(COMMAND_CHARS_MAX));
            body.spans = (0..spans).map(|n| [u32::MAX - 1 - spans + n; 4]).collect();
        });
        let profile = Profile::from_bytes(&bytes).unwrap();
        assert_eq!(profile.steps().len(), SPANS_MAX);
    }
}
