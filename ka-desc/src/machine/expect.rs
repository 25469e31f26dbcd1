//! `serial=…,size=…,model=…,wwn=…`: which disk is meant, by what it says of itself.

use std::fmt;

use super::facts::Facts;
use crate::error::Error;
use crate::language::bytes;

/// One thing that the disk must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Its serial number.
    Serial(String),
    /// Its model.
    Model(String),
    /// Its world wide name.
    Wwn(String),
    /// Its size, to as many digits as are written: `500GB` is any disk that rounds to that.
    Size(String),
}

/// Reads a list of expectations.
///
/// # Errors
/// A sentence that says how they are written.
pub fn expectations(text: &str) -> Result<Vec<Expectation>, Error> {
    let one = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(how)?;
        let value = value.trim().to_owned();
        if value.is_empty() {
            return Err(how());
        }
        match key.trim() {
            "serial" => Ok(Expectation::Serial(value)),
            "model" => Ok(Expectation::Model(value)),
            "wwn" => Ok(Expectation::Wwn(value)),
            "size" if bytes::parse(&value).is_some() => Ok(Expectation::Size(value)),
            _ => Err(how()),
        }
    };
    text.split(',').map(one).collect()
}

fn how() -> Error {
    "what a disk must be is written like serial=S3Z9NB0K,size=500GB,model=Samsung SSD 860,wwn=0x5002538e"
        .into()
}

impl Expectation {
    /// Whether the disk is so. What it does not tell of itself, it is not.
    #[must_use]
    pub fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Serial(text) => facts.serial.iter().any(|is| plain(is) == plain(text)),
            Self::Model(text) => facts.model.iter().any(|is| plain(is) == plain(text)),
            Self::Wwn(text) => facts.wwn.iter().any(|is| plain(is) == plain(text)),
            Self::Size(text) => rounds_to(facts.geometry.disk_bytes, text),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(text) => write!(f, "serial={text}"),
            Self::Model(text) => write!(f, "model={text}"),
            Self::Wwn(text) => write!(f, "wwn={text}"),
            Self::Size(text) => write!(f, "size={text}"),
        }
    }
}

/// udev writes blanks as `_`, and the kernel a world wide name as `naa.…`, where others write `0x…`.
fn plain(text: &str) -> String {
    let text = text.trim().to_lowercase().replace('_', " ");
    let bare = ["naa.", "eui.", "0x"].iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.unwrap_or(&text).to_owned()
}

fn rounds_to(disk_bytes: u64, text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let Some(one) = bytes::parse(&format!("1{unit}")) else { return false };
    format!("{:.decimals$}", disk_bytes as f64 / one as f64) == number
        || bytes::parse(text) == Some(disk_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_to_the_digits_that_are_written() {
        for (text, holds) in [
            ("500GB", true),
            ("465.8G", true),
            ("465.76GiB", true),
            ("500107862016B", true),
            ("501GB", false),
            ("465.7G", false),
            ("500107862017B", false),
        ] {
            assert_eq!(rounds_to(500_107_862_016, text), holds, "{text}");
        }
    }

    #[test]
    fn names_are_compared_as_people_write_them() {
        assert_eq!(plain(" Samsung_SSD_860 "), plain("samsung ssd 860"));
        assert_eq!(plain("naa.5002538e"), plain("0x5002538E"));
        assert!(expectations("serial=x,size=500GB").is_ok());
        for text in ["", "serial", "serial=", "size=big", "colour=red"] {
            assert!(expectations(text).unwrap_err().to_string().contains("serial=S3Z9"), "{text}");
        }
    }
}
