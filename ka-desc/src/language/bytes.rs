//! Sizes as a desc writes them: a bare number is mebibytes, as in 2001, or it has a unit.
//!
//! `K`, `M`, `G`, `T` (also `KiB` …) count by 1024; `kB`, `MB`, `GB`, `TB` by 1000; `B` is a byte.

use std::fmt;

use crate::limits::MIB_BYTES;

const BINARY: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// Reads a size. `None`: it is no size, or more than 64 bits hold.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 20 || decimals.len() > 9 || number.ends_with('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{decimals}").parse().ok()?;
    // 29 digits by 2^40 stay within 128 bits: 10^29 < 2^97.
    u64::try_from(digits.checked_mul(factor(unit)?.into())? / 10_u128.pow(decimals.len() as u32)).ok()
}

fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.as_str() {
        "" => return Some(MIB_BYTES),
        "b" => return Some(1),
        u if u.ends_with("ib") => (&u[..u.len() - 2], 1024_u64),
        u if u.ends_with('b') => (&u[..u.len() - 1], 1000),
        u => (u, 1024),
    };
    let power = ["k", "m", "g", "t"].iter().position(|p| *p == prefix)?;
    Some(base.pow(power as u32 + 1))
}

/// A size as a desc has it: exact, in the largest unit that divides it; mebibytes are bare, as in 2001.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub u64);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BINARY.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            None => write!(f, "{}B", self.0),
            Some(("M", bytes)) => write!(f, "{}", self.0 / bytes),
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
        }
    }
}

/// A size for people: at most one decimal.
#[must_use]
pub fn people(bytes: u64) -> String {
    match BINARY.iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}iB", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}iB", bytes as f64 / *unit as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("3500", 3500 << 20),
            ("1K", 1024),
            ("1.5G", 3 << 29),
            ("2TiB", 2 << 40),
            ("10kB", 10_000),
            ("500GB", 500_000_000_000),
            ("512B", 512),
            ("0.5", 1 << 19),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in
            ["", "M", ".5", "5.", "1.2.3", "-1", "5x", "5 M", "1e3", "99999999T", "18446744073709551616B"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [1, 512, 1023, 1024, MIB_BYTES, 3 << 20, 1 << 30, (1 << 30) + 512, 5 << 40, u64::MAX] {
            assert_eq!(parse(&Written(bytes).to_string()), Some(bytes));
        }
        assert_eq!(Written(3500 << 20).to_string(), "3500");
        assert_eq!(people(3_650_722_202), "3.4 GiB");
    }
}
