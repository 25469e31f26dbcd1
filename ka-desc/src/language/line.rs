//! The line of one partition: what it is for, how large it is, and its options.

use super::bytes;
use super::check::Field;
use super::desc::{Action, Partition, Size};
use super::guid::Guid;
use super::lex::{Rest, Word, wrong};
use super::problem::{Problem, Span};
use super::words::{Fs, Kind, near, refused};

/// The words that begin a line, besides the kinds.
const STARTS: [&str; 7] = ["desc", "disk", "table", "keep", "reuse", "logical", "subvol"];

const OPTIONS: [&str; 11] = [
    "label",
    "uuid",
    "mount",
    "options",
    "min",
    "bootable",
    "number",
    "at",
    "name",
    "partuuid",
    "attributes",
];

/// The line of a partition, as far as it is understood.
pub(super) struct Said {
    pub(super) partition: Partition,
    /// The place of each of its words in the text.
    pub(super) spans: Vec<(Field, Span)>,
    /// Its kind is not understood; another stands for it.
    pub(super) unkind: bool,
}

/// Reads the line that begins with `first`, and tells `problems` of all that is wrong with it. `None`: it may be the line
/// of something else.
pub(super) fn partition(rest: &mut Rest<'_>, first: &Word, problems: &mut Vec<Problem>) -> Option<Said> {
    let mut spans = vec![(Field::Whole, first.span)];
    let mut word = first;
    let action = match word.text.as_str() {
        "keep" => Action::Keep,
        "reuse" => Action::Reuse,
        _ => Action::Make,
    };
    if action != Action::Make {
        word = told(rest.need("the partition that must be there, such as `keep data any`"), problems)?;
    }
    let logical = word.text == "logical" && !word.quoted;
    if logical {
        word = told(rest.need("what it is for, such as `logical linux 500`"), problems)?;
    }
    spans.push((Field::Kind, word.span));
    let is_size = |word: &Word| size(word, action).is_ok();
    let kind = told(kind(word, action == Action::Make && !logical), problems);
    if kind.is_none() && !rest.peek().is_some_and(is_size) {
        return None;
    }
    let size = match rest.peek() {
        Some(word) if is_option(word) => size(word, action),
        _ => rest.need("a size, such as `3500` (mebibytes), `20G`, `30%` or `fill`").and_then(|word| {
            spans.push((Field::Size, word.span));
            size(word, action)
        }),
    };
    let size = told(size, problems);
    let mut late = size.is_none();
    // What stands in for what is not understood contradicts nothing.
    let any = if action == Action::Make { Size::Fill } else { Size::Any };
    let new = Partition::new(kind.unwrap_or(Kind::Linux), size.unwrap_or(any));
    let mut partition = Partition { action, logical, ..new };
    while let Some(word) = rest.next() {
        // A size in the wrong place was missed above.
        if late && is_size(word) {
            late = false;
            continue;
        }
        if let Err(problem) = option(&mut partition, &mut spans, word, rest) {
            problems.push(problem);
            // What follows a word that is not understood may be its value.
            if !is_option(word) {
                rest.skip_to(is_option);
            }
        }
    }
    // In the case that its tools write it in; what is none stays for the check.
    let uuid = partition.file_system().zip(partition.uuid.as_ref()).and_then(|(fs, uuid)| fs.uuid(uuid));
    partition.uuid = uuid.or(partition.uuid);
    Some(Said { partition, spans, unkind: kind.is_none() })
}

/// Unwraps what was read; what is wrong with it is told to `problems`.
pub(super) fn told<T>(read: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

/// Which lines may be meant by one that begins with this word: the first word of them, if it is near.
pub(super) fn near_start(word: &str) -> Option<&str> {
    near(word, Kind::words().chain(STARTS))
}

/// Whether it is a file system or the name of an option.
fn is_option(word: &Word) -> bool {
    !word.quoted && (Fs::of_word(&word.text).is_some() || OPTIONS.contains(&word.text.as_str()))
}

/// `alone`: no word stood before it, so a word that begins other lines could have been meant.
fn kind(word: &Word, alone: bool) -> Result<Kind, Problem> {
    let text = word.text.as_str();
    if let Some(kind) = Kind::of_word(text).filter(|_| !word.quoted) {
        return Ok(kind);
    }
    if let Some((why, way_out)) = refused(text) {
        return wrong(word, format!("`{text}` is not done by a desc: {why}"), way_out);
    }
    if let Some(number) = text.strip_prefix("type") {
        return typed(word, number);
    }
    let starts = if alone { &STARTS[..] } else { &[] };
    let near = near(text, Kind::words().chain(starts.iter().copied()));
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let kinds = list(Kind::words());
    wrong(
        word,
        format!("`{text}` is no kind of partition"),
        format!("{meant}expected one of {kinds}, or `type` and a number, such as type0c"),
    )
}

/// A type by number: two hexadecimal digits for an MBR, a GUID for a GPT.
fn typed(word: &Word, number: &str) -> Result<Kind, Problem> {
    if let Ok(guid) = number.parse::<Guid>() {
        if guid.0 == 0 {
            return wrong(word, "the GUID of zeros marks an entry that is not used", "give another type");
        }
        return Ok(Kind::Gpt(guid));
    }
    let hex = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_hexdigit());
    match u8::from_str_radix(number, 16) {
        Ok(0x00) if hex => wrong(word, "type 00 marks an entry that is not used", "give another type"),
        Ok(0xee) if hex => wrong(word, "type ee is what a GPT hides behind", "for a GPT, write `table gpt`"),
        Ok(0x05 | 0x0f | 0x85) if hex => wrong(
            word,
            "this is the type of an extended partition",
            "write `extended`, so that logicals can be put into it",
        ),
        // `linux` is the same as type83, and `swap` as type82, as the manual of 2001 says.
        Ok(n @ (0x82 | 0x83)) if hex => Ok(Kind::of_mbr_type(n)),
        Ok(n) if hex => Ok(Kind::Mbr(n)),
        _ => wrong(
            word,
            format!("`{number}` is no type"),
            "expected two hexadecimal digits, such as type0c, or for a GPT a GUID",
        ),
    }
}

fn size(word: &Word, action: Action) -> Result<Size, Problem> {
    let text = word.text.as_str();
    match text {
        "fill" => return Ok(Size::Fill),
        "any" => return Ok(Size::Any),
        _ => {}
    }
    let percent = text.strip_suffix('%').map(str::parse::<u8>);
    match (bytes::parse(text), percent) {
        (Some(0), _) => wrong(word, "a partition of no size", "give it at least 1 (a mebibyte)"),
        (Some(bytes), _) => Ok(Size::Bytes(bytes)),
        (_, Some(Ok(n @ 1..=100))) => Ok(Size::Percent(n)),
        (_, Some(_)) => {
            wrong(word, format!("`{text}` is no share of a disk"), "expected 1% to 100%, whole numbers")
        }
        _ => {
            let any = if action == Action::Make { "" } else { ", or `any`" };
            let what = if Fs::of_word(text).is_some() || OPTIONS.contains(&text) {
                format!("the size is missing before `{text}`")
            } else {
                format!("`{text}` is no size")
            };
            let way_out = format!("expected mebibytes, such as 3500, or 20G, 512M, 30%, or `fill`{any}");
            wrong(word, what, way_out)
        }
    }
}

fn option(
    partition: &mut Partition,
    spans: &mut Vec<(Field, Span)>,
    word: &Word,
    rest: &mut Rest<'_>,
) -> Result<(), Problem> {
    let name = word.text.as_str();
    let mut field = |field: Field, span: Span| {
        let twice = spans.iter().any(|(f, _)| *f == field);
        spans.push((field, span));
        if twice { wrong(word, format!("`{name}` is said twice"), "say it once") } else { Ok(()) }
    };
    if let Some(fs) = Fs::of_word(name).filter(|_| !word.quoted) {
        partition.fs = Some(fs);
        return field(Field::Fs, word.span);
    }
    match name {
        _ if word.quoted => wrong(word, "a value without its word", "such as `label \"my disk\"`"),
        "bootable" => {
            partition.bootable = true;
            field(Field::Bootable, word.span)
        }
        "min" => {
            let value = rest.need("a size, such as `min 10G`")?;
            let Some(bytes) = bytes::parse(&value.text).filter(|b| *b > 0) else {
                return wrong(
                    value,
                    format!("`{}` is no size", value.text),
                    "expected a size, such as `min 10G`",
                );
            };
            partition.min_bytes = Some(bytes);
            field(Field::Min, value.span)
        }
        "at" => {
            let value = rest.need("where it begins, such as `at 117` (mebibytes)")?;
            let Some(bytes) = bytes::parse(&value.text) else {
                return wrong(
                    value,
                    format!("`{}` is no place", value.text),
                    "expected a distance, such as `at 117`",
                );
            };
            partition.at_bytes = Some(bytes);
            field(Field::At, value.span)
        }
        "number" => {
            let value = rest.need("a number, such as `number 3`")?;
            let Some(number) = value.text.parse().ok().filter(|n| *n > 0) else {
                return wrong(
                    value,
                    format!("`{}` is no partition's number", value.text),
                    "expected 1, 2, 3, …",
                );
            };
            partition.number = Some(number);
            field(Field::Number, value.span)
        }
        "partuuid" => {
            let value = rest.need("a GUID")?;
            let Ok(guid) = value.text.parse() else {
                let way_out = "expected one such as 8D3F2C1E-5B6A-4C7D-9E8F-0A1B2C3D4E5F";
                return wrong(value, format!("`{}` is no GUID", value.text), way_out);
            };
            partition.partuuid = Some(guid);
            field(Field::Partuuid, value.span)
        }
        "attributes" => {
            let value = rest.need("the numbers of attribute bits, such as `attributes 0,63`")?;
            partition.attributes |= attributes(value)?;
            field(Field::Attributes, value.span)
        }
        "label" | "uuid" | "mount" | "options" | "name" => {
            let (is, span) = text(partition, name, rest)?;
            field(is, span)
        }
        _ => no_option(word),
    }
}

/// Reads the bits of GPT attributes.
fn attributes(value: &Word) -> Result<u64, Problem> {
    let mut attributes = 0;
    for text in value.text.split(',') {
        let Some(bit) = text.parse::<u32>().ok().filter(|n| *n < 64) else {
            let way_out = "expected bits from 0 to 63, separated by commas: `attributes 0,63`";
            return wrong(value, format!("`{text}` is no attribute"), way_out);
        };
        attributes |= 1 << bit;
    }
    Ok(attributes)
}

/// Reads an option whose value is any text.
fn text(partition: &mut Partition, name: &str, rest: &mut Rest<'_>) -> Result<(Field, Span), Problem> {
    let (field, place, needed) = match name {
        "label" => (Field::Label, &mut partition.label, "the file system's label"),
        "uuid" => (Field::Uuid, &mut partition.uuid, "the file system's UUID"),
        "mount" => (Field::Mount, &mut partition.mount, "a path, such as `mount /home`"),
        "options" => {
            (Field::Options, &mut partition.options, "mount options, such as `options nodev,noatime`")
        }
        _ => (Field::Name, &mut partition.name, "the name that a GPT gives it"),
    };
    let value = rest.need(needed)?;
    *place = Some(value.text.clone());
    Ok((field, value.span))
}

fn no_option(word: &Word) -> Result<(), Problem> {
    let name = word.text.as_str();
    if let Some((why, way_out)) = refused(name) {
        return wrong(word, format!("`{name}` is not done by a desc: {why}"), way_out);
    }
    let near = near(name, Fs::words().chain(OPTIONS));
    let meant = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let way_out = format!(
        "{meant}expected a file system ({}), or one of {}; a comment begins with #",
        list(Fs::words()),
        list(OPTIONS)
    );
    wrong(word, format!("`{name}` says nothing of a partition"), way_out)
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
