//! Sizes, rates and times as people write and read them.
//!
//! A size is a number and a unit: `K`, `M`, `G`, `T` (also `KiB` …) count by 1024, `kB`, `MB`, `GB`, `TB` by 1000.
//! A rate is a size per second, or bits per second: `kbit`, `mbit`, `gbit` count by 1000, as networks do.
//! A time is seconds, or has a unit: `ms`, `s`, `m`, `h`.
//!
//! A size or rate without a unit is bytes; one below 1 MiB is refused, because somebody who types `--rate 10` hardly means
//! ten bytes a second. So is a rate whose unit ends in a small `b`, which may be bits or bytes.

use crate::types::Invalid;
use std::time::Duration;

const SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// The least value of a number without a unit, in bytes.
const BARE_BYTES: u64 = 1 << 20;

/// Reads a size, in bytes.
///
/// # Errors
/// A sentence that says how a size is written.
pub fn parse_size(text: &str) -> Result<u64, Invalid> {
    let bytes = scaled(text, size_unit).ok_or("a size is written like 512K, 64M or 1.5G")?;
    with_unit(text, bytes, "")
}

/// Reads a rate, in bytes per second.
///
/// # Errors
/// A sentence that says how a rate is written.
pub fn parse_rate(text: &str) -> Result<u64, Invalid> {
    let amount = text.strip_suffix("/s").unwrap_or(text).trim();
    if amount.ends_with('b') {
        return Err("a small b may be bits or bytes: write 100mbit for bits, 100MB or 100M for bytes".into());
    }
    let how = "a rate is written like 50M (MiB per second), 500K or 400mbit";
    match with_unit(amount, scaled(amount, rate_unit).ok_or(how)?, "/s")? {
        0 => Err("a rate is more than 0; leave it out for no limit".into()),
        rate => Ok(rate),
    }
}

/// Refuses what was typed without a unit, and is so little that one was forgotten.
fn with_unit(text: &str, bytes: u64, per: &str) -> Result<u64, Invalid> {
    let text = text.trim();
    let is_bare = text.ends_with(|c: char| c.is_ascii_digit());
    let is_nothing = text.chars().all(|c| matches!(c, '0' | '.'));
    if !is_bare || is_nothing || bytes >= BARE_BYTES {
        return Ok(bytes);
    }
    Err(format!("{text} is {bytes} B{per}: write {text}M for {text} MiB{per}, or {text}B if bytes are meant")
        .into())
}

/// Reads a time that is longer than nothing.
///
/// # Errors
/// A sentence that says how a time is written.
pub fn parse_duration(text: &str) -> Result<Duration, Invalid> {
    match scaled(text, time_unit) {
        Some(0) => Err("a time is longer than 0".into()),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("a time is written like 30, 30s, 5m, 2h or 500ms".into()),
    }
}

/// A unit as a fraction: so many of what is counted, by so many.
type Unit = (u64, u64);

fn size_unit(unit: &str) -> Option<Unit> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.as_str() {
        "" | "b" => return Some((1, 1)),
        u if u.ends_with("ib") => (&u[..u.len() - 2], 1024),
        u if u.ends_with('b') => (&u[..u.len() - 1], 1000),
        u => (u, 1024_u64),
    };
    Some((base.pow(power(prefix)?), 1))
}

fn rate_unit(unit: &str) -> Option<Unit> {
    let lower = unit.to_ascii_lowercase();
    match lower.strip_suffix("bit") {
        Some("") => Some((1, 8)),
        Some(prefix) => Some((1000_u64.pow(power(prefix)?), 8)),
        None => size_unit(unit),
    }
}

fn time_unit(unit: &str) -> Option<Unit> {
    match unit {
        "ms" => Some((1, 1)),
        "" | "s" => Some((1000, 1)),
        "m" | "min" => Some((60_000, 1)),
        "h" => Some((3_600_000, 1)),
        _ => None,
    }
}

fn power(prefix: &str) -> Option<u32> {
    ["k", "m", "g", "t"].iter().position(|p| *p == prefix).map(|at| at as u32 + 1)
}

/// A number with at most nine decimals, and its unit: the product, rounded down.
fn scaled(text: &str, unit: impl Fn(&str) -> Option<Unit>) -> Option<u64> {
    let text = text.trim();
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_ends);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || decimals.len() > 9 || number.ends_with('.') {
        return None;
    }
    let (by, over) = unit(rest.trim_start())?;
    // 20 digits at most and 9 decimals, by at most 2^40: far from what 128 bits hold.
    let digits: u128 = (whole.len() <= 20).then(|| format!("{whole}{decimals}").parse().ok())??;
    let product = digits.checked_mul(u128::from(by))? / u128::from(over) / 10_u128.pow(decimals.len() as u32);
    u64::try_from(product).ok()
}

/// Bytes for people: `512 B`, `64 MiB`, `3.4 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match SIZES.iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
    }
}

/// Bytes per second for people.
#[must_use]
pub fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", size(bytes_per_s))
}

/// A time for people: `0.3 s`, `12 s`, `2 min 05 s`, `1 h 02 min`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 if time.subsec_millis() >= 50 => format!("{:.1} s", time.as_secs_f64()),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 node`, `2 nodes`.
#[must_use]
pub fn nodes(n: u32) -> String {
    if n == 1 { "1 node".into() } else { format!("{n} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512 B", 512),
            ("10B", 10),
            ("1K", 1024),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("2TiB", 2 << 40),
            ("10kB", 10_000),
            ("1.25 MB", 1_250_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "M",
            ".5M",
            "5.",
            "1.2.3",
            "-1",
            "5x",
            "5 M M",
            "1e3",
            "ib",
            "18446744073709551616",
            "99999999T",
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.to_string().contains("64M"), "{text}: {error}");
        }
    }

    #[test]
    fn rates_are_read() {
        for (text, bytes) in [
            ("50M", 50 << 20),
            ("50M/s", 50 << 20),
            ("400mbit", 50_000_000),
            ("400Mbit/s", 50_000_000),
            ("1gbit", 125_000_000),
            ("8bit", 1),
            ("100MB", 100_000_000),
        ] {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
        }
        assert!(parse_rate("0").unwrap_err().to_string().contains("leave it out"));
        assert!(parse_rate("7bit").unwrap_err().to_string().contains("leave it out"));
        assert!(parse_rate("fast").unwrap_err().to_string().contains("400mbit"));
    }

    #[test]
    fn a_small_number_without_a_unit_is_refused_with_the_way_out() {
        for text in ["10", " 10 ", "1", "65536", "1048575", "0.5", "1000.25"] {
            let said = [parse_size(text).unwrap_err().to_string(), parse_rate(text).unwrap_err().to_string()];
            let number = text.trim();
            for (said, per) in said.iter().zip(["", "/s"]) {
                let way = format!("write {number}M for {number} MiB{per}, or {number}B if bytes are meant");
                assert!(said.contains(&way), "{text}: {said}");
            }
            // The way out is one.
            assert!(parse_size(&format!("{number}M")).is_ok() && parse_rate(&format!("{number}M/s")).is_ok());
        }
        assert_eq!(parse_rate("10/s").unwrap_err().to_string(), parse_rate("10").unwrap_err().to_string());
        for (text, bytes) in [("1048576", 1 << 20), ("50000000", 50_000_000), ("10B", 10), ("10B/s", 10)] {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_rate_in_bits_or_bytes_is_not_guessed() {
        for text in ["100Mb", "100mb", "100Mb/s", "10b", "1Gib"] {
            assert!(parse_rate(text).unwrap_err().to_string().contains("100mbit for bits"), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, ms) in
            [("30", 30_000), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("0.5", 500), ("20ms", 20)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["0", "", "5 days", "-3s", "1:30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_sizes_and_rates_come_back() {
        for bytes in [0, 1, 1023, 1 << 10, 64 << 20, 3 << 30, 5 << 40] {
            assert_eq!(parse_size(&size(bytes)), Ok(bytes));
            assert_eq!(parse_rate(&rate(bytes.max(1))), Ok(bytes.max(1)));
        }
        assert_eq!(size(3_650_722_202), "3.4 GiB");
    }

    #[test]
    fn short_times_come_back_and_long_ones_read_well() {
        for seconds in [1, 9, 10, 59] {
            let time = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&duration(time)), Ok(time));
        }
        assert_eq!(duration(Duration::from_millis(340)), "0.3 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 02 min");
    }
}
