//! Text to [`Desc`], line by line; a line that is wrong does not hide what is wrong with the others.
//!
//! Here is what a line can see by itself. What takes the whole desc to see is in [`super::check`], which names places
//! of the desc; this file remembers where in the text they are.

use std::collections::BTreeMap;

use super::check::{self, Field, Place};
use super::lex::{Word, words};
use super::problem::{Problem, Problems, Span};
use super::words::{Fs, Kind, near, refused};
use super::{Action, Desc, Disk, Guid, Partition, Size, Subvolume, Table, TableId, bytes};
use crate::limits::TEXT_BYTES_MAX;

/// The version of the language that this crate reads. It contains the language of ka-deploy 0.94.
pub const VERSION: u32 = 1;

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

/// Reads a desc.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: impl AsRef<[u8]>) -> Result<Desc, Problems> {
    let bytes = text.as_ref();
    let whole = |line, what: String, way_out: &str| {
        let span = Span { line, column: 1, width: 1 };
        Problems::new(vec![Problem { span, what, way_out: way_out.into() }], "")
    };
    if bytes.len() > TEXT_BYTES_MAX {
        let what = format!("a desc has at most {} KiB, and this is more", TEXT_BYTES_MAX >> 10);
        return Err(whole(1, what, "is it a desc file at all?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        whole(line, "this is not UTF-8 text".into(), "save it as UTF-8; is it a desc file at all?")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::default();
    for (at, line) in text.split('\n').enumerate() {
        if let Err(problem) = words(line, at + 1).and_then(|words| reader.line(&words)) {
            reader.problems.push(problem);
        }
    }
    reader.finish(text)
}

#[derive(Default)]
struct Reader {
    desc: Desc,
    spans: BTreeMap<Place, Span>,
    problems: Vec<Problem>,
    /// Something was said before this line.
    begun: bool,
    /// The partition line above was wrong, so `subvol` lines have nobody to belong to.
    orphans: bool,
}

/// The rest of a line.
struct Rest<'a> {
    words: std::slice::Iter<'a, Word>,
    /// The word before.
    last: &'a Word,
}

impl<'a> Rest<'a> {
    fn next(&mut self) -> Option<&'a Word> {
        let word = self.words.next()?;
        self.last = word;
        Some(word)
    }

    /// The next word, which must be there; `expected` says what it would be.
    fn need(&mut self, expected: &str) -> Result<&'a Word, Problem> {
        let Span { line, column, width } = self.last.span;
        let behind = Span { line, column: column + width, width: 1 };
        self.next().ok_or_else(|| Problem {
            span: behind,
            what: "the line ends too early".into(),
            way_out: format!("expected {expected}"),
        })
    }

    fn end(&mut self) -> Result<(), Problem> {
        self.next().map_or(Ok(()), |word| wrong(word, "one word too many", "the line ends before it"))
    }
}

fn wrong<T>(word: &Word, what: impl Into<String>, way_out: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { span: word.span, what: what.into(), way_out: way_out.into() })
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

impl Reader {
    fn line(&mut self, words: &[Word]) -> Result<(), Problem> {
        let Some(first) = words.first() else { return Ok(()) };
        let mut rest = Rest { words: words[1..].iter(), last: first };
        let begun = std::mem::replace(&mut self.begun, true);
        match first.text.as_str() {
            _ if first.quoted => wrong(first, "a line does not begin with a quote", "it begins with a word"),
            "desc" if begun => {
                wrong(first, "`desc` is not the first line", "the version stands above all else")
            }
            "desc" => version(&mut rest),
            "disk" => self.disk(&mut rest, first),
            "table" => self.table(&mut rest, first),
            "subvol" => self.subvolume(&mut rest, first),
            _ => {
                self.orphans = true;
                self.partition(&mut rest, first)?;
                self.orphans = false;
                Ok(())
            }
        }
    }

    fn disk(&mut self, rest: &mut Rest<'_>, first: &Word) -> Result<(), Problem> {
        // Even if its name is wrong, what follows belongs to another disk.
        self.desc.disks.push(Disk::default());
        self.mark(Field::Whole, first.span);
        let name = rest.need("what the desc calls this disk, such as `disk system`")?;
        self.mark(Field::Name, name.span);
        self.current().name = Some(name.text.clone());
        rest.end()
    }

    fn table(&mut self, rest: &mut Rest<'_>, first: &Word) -> Result<(), Problem> {
        if self.current().table.is_some() || !self.current().partitions.is_empty() {
            let way_out = "it stands once for each disk, above the disk's partitions";
            return wrong(first, "`table` in the wrong place", way_out);
        }
        self.mark(Field::Table, first.span);
        let word = rest.need("`gpt` or `mbr`")?;
        let table = match word.text.as_str() {
            "gpt" => Table::Gpt,
            "mbr" => Table::Mbr,
            other => {
                return wrong(word, format!("`{other}` is no partition table"), "expected `gpt` or `mbr`");
            }
        };
        self.current().table = Some(table);
        while let Some(option) = rest.next() {
            match option.text.as_str() {
                "id" => {
                    let word = rest.need("the table's identity")?;
                    let id = match table {
                        Table::Gpt => word.text.parse().ok().map(TableId::Gpt),
                        Table::Mbr => mbr_id(&word.text).map(TableId::Mbr),
                    };
                    let expected = match table {
                        Table::Gpt => "expected a GUID, such as 8D3F2C1E-5B6A-4C7D-9E8F-0A1B2C3D4E5F",
                        Table::Mbr => "expected eight hexadecimal digits, such as 0x1a2b3c4d",
                    };
                    let Some(id) = id else {
                        return wrong(word, format!("`{}` names no {table} table", word.text), expected);
                    };
                    self.current().id = Some(id);
                }
                "sector" => {
                    let word = rest.need("512 or 4096")?;
                    let Some(size) =
                        crate::limits::SECTOR_BYTES.into_iter().find(|s| s.to_string() == word.text)
                    else {
                        return wrong(
                            word,
                            format!("no disk has sectors of {} bytes", word.text),
                            "expected 512 or 4096",
                        );
                    };
                    self.current().sector_bytes = Some(size);
                }
                other => {
                    return wrong(
                        option,
                        format!("`{other}` says nothing of a table"),
                        "expected `id` or `sector`",
                    );
                }
            }
        }
        Ok(())
    }

    fn subvolume(&mut self, rest: &mut Rest<'_>, first: &Word) -> Result<(), Problem> {
        let name = rest.need("the subvolume's name, such as `subvol @home mount /home`")?;
        let mut subvolume = Subvolume { name: name.text.clone(), mount: None, options: None };
        let mut mount = name.span;
        while let Some(option) = rest.next() {
            match option.text.as_str() {
                "mount" if subvolume.mount.is_none() => {
                    let path = rest.need("a path, such as `mount /home`")?;
                    mount = path.span;
                    subvolume.mount = Some(path.text.clone());
                }
                "options" if subvolume.options.is_none() => {
                    subvolume.options =
                        Some(rest.need("mount options, such as `options nodev`")?.text.clone());
                }
                other => {
                    let way_out = "expected `mount PATH` or `options LIST`, each once";
                    return wrong(option, format!("`{other}` is no option of a subvolume"), way_out);
                }
            }
        }
        if self.orphans {
            return Ok(());
        }
        let Some(partition) = self.current().partitions.last_mut() else {
            return wrong(first, "a subvolume of nothing", "it stands below the line of its btrfs partition");
        };
        partition.subvolumes.push(subvolume);
        let at = partition.subvolumes.len() - 1;
        self.mark(Field::Subvolume(at), name.span);
        self.mark(Field::SubvolumeMount(at), mount);
        Ok(())
    }

    fn partition(&mut self, rest: &mut Rest<'_>, first: &Word) -> Result<(), Problem> {
        let mut spans = vec![(Field::Whole, first.span)];
        let mut word = first;
        let action = match word.text.as_str() {
            "keep" => Action::Keep,
            "reuse" => Action::Reuse,
            _ => Action::Make,
        };
        if action != Action::Make {
            word = rest.need("the partition that must be there, such as `keep data any`")?;
        }
        let logical = word.text == "logical" && !word.quoted;
        if logical {
            word = rest.need("what it is for, such as `logical linux 500`")?;
        }
        let kind = kind(word, action == Action::Make && !logical)?;
        spans.push((Field::Kind, word.span));
        let word = rest.need("a size, such as `3500` (mebibytes), `20G`, `30%` or `fill`")?;
        spans.push((Field::Size, word.span));
        let mut partition = Partition { action, logical, ..Partition::new(kind, size(word, action)?) };
        while let Some(word) = rest.next() {
            option(&mut partition, &mut spans, word, rest)?;
        }
        // In the case that its tools write it in; what is none stays for the check.
        let uuid = partition.file_system().zip(partition.uuid.as_ref()).and_then(|(fs, uuid)| fs.uuid(uuid));
        partition.uuid = uuid.or(partition.uuid);
        self.current().partitions.push(partition);
        for (field, span) in spans {
            self.mark(field, span);
        }
        Ok(())
    }

    /// The disk that lines belong to now.
    fn current(&mut self) -> &mut Disk {
        if self.desc.disks.is_empty() {
            self.desc.disks.push(Disk::default());
        }
        self.desc.disks.last_mut().expect("there is one now")
    }

    /// Remembers where something of the disk's last partition, or of the disk if it has none, was said.
    fn mark(&mut self, field: Field, span: Span) {
        let partition = self.current().partitions.len().checked_sub(1);
        let disk = self.desc.disks.len() - 1;
        self.spans.insert(Place { disk, partition, field }, span);
    }

    fn finish(mut self, text: &str) -> Result<Desc, Problems> {
        // Half a desc would be told of what its missing lines bring about.
        if self.problems.is_empty() {
            for fault in check::faults(&self.desc) {
                let whole = Place { field: Field::Whole, ..fault.place };
                let span = self.spans.get(&fault.place).or_else(|| self.spans.get(&whole)).copied();
                let span = span.unwrap_or(Span { line: 1, column: 1, width: 1 });
                self.problems.push(Problem { span, what: fault.what, way_out: fault.way_out });
            }
        }
        if self.problems.is_empty() { Ok(self.desc) } else { Err(Problems::new(self.problems, text)) }
    }
}

fn version(rest: &mut Rest<'_>) -> Result<(), Problem> {
    let word = rest.need("the language's version: `desc 1`")?;
    match word.text.parse::<u32>() {
        Ok(VERSION) => rest.end(),
        Ok(n) if n > VERSION => {
            let what = format!(
                "this desc is written in version {n} of the language, and this program reads {VERSION}"
            );
            wrong(word, what, "a newer ka-desc reads it")
        }
        _ => wrong(word, "no version of the language", "expected `desc 1`"),
    }
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
            let bit = |text: &str| text.parse::<u32>().ok().filter(|n| *n < 64);
            for text in value.text.split(',') {
                let Some(bit) = bit(text) else {
                    let way_out = "expected bits from 0 to 63, separated by commas: `attributes 0,63`";
                    return wrong(value, format!("`{text}` is no attribute"), way_out);
                };
                partition.attributes |= 1 << bit;
            }
            field(Field::Attributes, value.span)
        }
        "label" | "uuid" | "mount" | "options" | "name" => {
            let value = rest.need(match name {
                "label" => "the file system's label",
                "uuid" => "the file system's UUID",
                "mount" => "a path, such as `mount /home`",
                "options" => "mount options, such as `options nodev,noatime`",
                _ => "the name that a GPT gives it",
            })?;
            let text = Some(value.text.clone());
            let place = match name {
                "label" => (Field::Label, &mut partition.label),
                "uuid" => (Field::Uuid, &mut partition.uuid),
                "mount" => (Field::Mount, &mut partition.mount),
                "options" => (Field::Options, &mut partition.options),
                _ => (Field::Name, &mut partition.name),
            };
            *place.1 = text;
            field(place.0, value.span)
        }
        _ => no_option(word),
    }
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

fn mbr_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let hex = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| hex)
}
