//! What a request carries: Basic authentication, or the platform's two headers.

use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// No account has longer ones.
const USERNAME_BYTES_MAX: usize = 255;
const PASSWORD_BYTES_MAX: usize = 1024;

const USERNAME: &str = "x-uwsgi-it-username";
const PASSWORD: &str = "x-uwsgi-it-password";
const FORWARDED: &str = "x-forwarded-for";

/// A name and a password, not checked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of a request, if it has some that could be right.
    pub(super) fn of(headers: &HeaderMap) -> Option<Credentials> {
        let (username, password) = match headers.get(AUTHORIZATION) {
            Some(value) => basic(value.to_str().ok()?)?,
            None => (hex(headers, USERNAME)?, hex(headers, PASSWORD)?),
        };
        let is_possible = !username.is_empty()
            && username.len() <= USERNAME_BYTES_MAX
            && password.len() <= PASSWORD_BYTES_MAX;
        is_possible.then_some(Credentials { username, password })
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let text = text(decoded);
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// UTF-8; or as old clients have it, a byte a character.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let bytes = error.into_bytes();
        bytes.into_iter().map(char::from).collect()
    })
}

fn hex(headers: &HeaderMap, name: &str) -> Option<String> {
    let digits = headers.get(name)?.to_str().ok()?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.chunks_exact(2).map(|pair| {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        u8::try_from(digit(0)? * 16 + digit(1)?).ok()
    });
    Some(text(pairs.collect::<Option<_>>()?))
}

/// For whom a proxy asks: the last address is the one that it saw itself.
pub(super) fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get_all(FORWARDED).iter().next_back()?;
    let last = value.to_str().ok()?.rsplit(',').next()?;
    last.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(headers: &[(&'static str, &[u8])]) -> Option<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Credentials::of(&map).map(|given| (given.username, given.password))
    }

    #[test]
    fn both_ways_say_the_same() {
        let both = Some(("kratos".to_owned(), "dei:mos".to_owned()));
        assert_eq!(
            of(&[("authorization", b"Basic a3JhdG9zOmRlaTptb3M=")]),
            both
        );
        assert_eq!(
            of(&[("authorization", b"bAsIc  a3JhdG9zOmRlaTptb3M= ")]),
            both
        );
        let hex: [(&str, &[u8]); 2] = [
            ("x-uwsgi-it-username", b"6b7261746F73"),
            ("x-uwsgi-it-password", b"6465693a6d6f73"),
        ];
        assert_eq!(of(&hex), both);
        assert_eq!(of(&hex[..1]), None);
    }

    #[test]
    fn what_cannot_be_right_is_none() {
        for value in [
            &b"Basic"[..],
            b"Basic ",
            b"Basic !!!!",
            b"Basic bm9jb2xvbg==",
            b"Basic OnBhc3M=",
            b"Bearer a3JhdG9zOmRlaW1vcw==",
            b"\xff\xfe",
        ] {
            assert_eq!(of(&[("authorization", value)]), None);
        }
        for digits in [&b"6"[..], b"6g", b"+1", b"\xc3\xa9"] {
            let headers = [
                ("x-uwsgi-it-username", digits),
                ("x-uwsgi-it-password", b"61"),
            ];
            assert_eq!(of(&headers), None);
        }
        let long = STANDARD.encode(format!("a:{}", "x".repeat(2000)));
        assert_eq!(
            of(&[("authorization", format!("Basic {long}").as_bytes())]),
            None
        );
    }

    #[test]
    fn the_last_proxy_is_believed() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), None);
        for value in ["192.0.2.9", "10.0.0.1, 192.0.2.7"] {
            headers.append(FORWARDED, HeaderValue::from_static(value));
        }
        assert_eq!(forwarded(&headers), "192.0.2.7".parse().ok());
    }
}
