//! The time as the machine's clocks show it.

#![expect(unsafe_code, reason = "localtime_r(3) has no safe wrapper here")]

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment as ctime(3) writes it, in the time zone of the machine: 24 characters.
#[derive(Clone, Copy, Debug)]
pub struct Ctime(libc::tm);

impl Ctime {
    /// Of this moment; of the year 1970 if the clock says what no calendar has.
    pub fn now() -> Ctime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        Ctime::of(i64::try_from(seconds).unwrap_or_default())
    }

    fn of(seconds: i64) -> Ctime {
        // SAFETY: all of it are numbers, and a pointer that may be null.
        let mut parts: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to memory of this function.
        let made = unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
        if made.is_null() {
            parts.tm_year = 70;
            parts.tm_mday = 1;
        }
        Ctime(parts)
    }
}

impl fmt::Display for Ctime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |names: &[&'static str], at: i32| {
            let at = usize::try_from(at).ok();
            at.and_then(|at| names.get(at).copied()).unwrap_or("???")
        };
        let Ctime(parts) = self;
        write!(
            f,
            "{} {} {:2} {:02}:{:02}:{:02} {:04}",
            name(&DAYS, parts.tm_wday),
            name(&MONTHS, parts.tm_mon),
            parts.tm_mday,
            parts.tm_hour,
            parts.tm_min,
            parts.tm_sec,
            parts.tm_year.saturating_add(1900),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_by_date() {
        for seconds in [0, 86_400 * 9, 1_700_000_000, 4_000_000_000] {
            let date = std::process::Command::new("date")
                .env("LC_ALL", "C")
                .args(["-d", &format!("@{seconds}"), "+%a %b %e %H:%M:%S %Y"])
                .output()
                .unwrap();
            let date = String::from_utf8(date.stdout).unwrap();
            assert_eq!(Ctime::of(seconds).to_string(), date.trim_end());
            assert_eq!(date.trim_end().len(), 24);
        }
        assert_eq!(Ctime::of(i64::MAX).to_string().len(), 24);
        assert_eq!(Ctime::now().to_string().len(), 24);
    }
}
