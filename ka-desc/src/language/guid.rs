//! GUIDs: what names a GPT, its partitions, their types, and most file systems.

use std::fmt;
use std::str::FromStr;

/// 128 bits, written `0FC63DAF-8483-4772-8E79-3D69D8477DE4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub u128);

/// The error that a text is no GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        let groups: Vec<&str> = text.split('-').collect();
        let lengths = groups.iter().map(|g| g.len());
        if !lengths.eq([8, 4, 4, 4, 12]) || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
            return Err(NotAGuid);
        }
        u128::from_str_radix(&groups.concat(), 16).map(Self).map_err(|_| NotAGuid)
    }
}

impl fmt::Display for Guid {
    /// In capitals, as sfdisk writes it; `{:#}` in small letters, as file systems do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        f.write_str(&if f.alternate() { text } else { text.to_ascii_uppercase() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_and_written() {
        let text = "0fc63daf-8483-4772-8e79-3d69d8477de4";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(format!("{guid:#}"), text);
        assert_eq!(guid.to_string(), text.to_ascii_uppercase());
    }

    #[test]
    fn what_is_no_guid_is_refused() {
        for text in
            ["", "83", "0fc63daf84834772-8e79-3d69d8477de4", "+fc63daf-8483-4772-8e79-3d69d8477de4", "é"]
        {
            assert_eq!(text.parse::<Guid>(), Err(NotAGuid), "{text}");
        }
    }
}
