//! Text to [`Desc`], line by line; a line that is wrong does not hide what is wrong with the others.
//!
//! Here is what a line can see by itself. What takes the whole desc to see is in [`super::check`], which names places
//! of the desc; this file remembers where in the text they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::check::{self, Field, Gaps, Place};
use super::desc::{Desc, Disk, Subvolume, TableId};
use super::lex::{Rest, Word, words, wrong};
use super::line;
use super::problem::{Problem, Problems, Span};
use super::words::Table;
use crate::limits::TEXT_BYTES_MAX;

/// The version of the language that this crate reads. It contains the language of ka-deploy 0.94.
pub const VERSION: u32 = 1;

/// Reads a desc.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: impl AsRef<[u8]>) -> Result<Desc, Problems> {
    let bytes = text.as_ref();
    let mut reader = Reader::default();
    if bytes.len() > TEXT_BYTES_MAX {
        let what = format!("a desc has at most {} KiB, and this is more", TEXT_BYTES_MAX >> 10);
        reader.problem(Span { line: 1, column: 1, width: 1 }, &what, "is it a desc file at all?");
        return Err(Problems::new(reader.problems, ""));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line);
        if matches!(text, Cow::Owned(_)) {
            let way_out = "save it as UTF-8; is it a desc file at all?";
            reader.problem(Span { line: at + 1, column: 1, width: 1 }, "this is not UTF-8 text", way_out);
            reader.riddle(&text);
        } else {
            reader.line(&text, at + 1);
        }
        if reader.newer {
            break;
        }
    }
    reader.finish(&String::from_utf8_lossy(bytes))
}

#[derive(Default)]
struct Reader {
    desc: Desc,
    spans: BTreeMap<Place, Span>,
    problems: Vec<Problem>,
    /// The parts that are not understood.
    gaps: Gaps,
    /// Something was said before this line.
    begun: bool,
    /// The line above may have been a partition's, so `subvol` lines have nobody to belong to.
    orphans: bool,
    /// The language is a later version, of which nothing is known.
    newer: bool,
}

impl Reader {
    fn line(&mut self, text: &str, number: usize) {
        let known = self.problems.len();
        let Some(words) = words(text, number, &mut self.problems) else { return self.riddle(text) };
        let Some(first) = words.first() else { return };
        let mut rest = Rest::behind(first, &words[1..]);
        let begun = std::mem::replace(&mut self.begun, true);
        match first.text.as_str() {
            _ if first.quoted => {
                self.problem(first.span, "a line does not begin with a quote", "it begins with a word");
                self.riddle(&first.text);
            }
            "desc" if begun => {
                self.problem(first.span, "`desc` is not the first line", "the version stands above all else");
            }
            "desc" => self.version(&mut rest),
            "disk" => self.disk(&mut rest, first),
            "table" => self.table(&mut rest, first, known),
            "subvol" => self.subvolume(&mut rest, first, known),
            _ => self.partition(&mut rest, first, known),
        }
    }

    fn problem(&mut self, span: Span, what: &str, way_out: &str) {
        self.problems.push(Problem { span, what: what.into(), way_out: way_out.into() });
    }

    /// Goes on after something that is wrong.
    fn take<T>(&mut self, read: Result<T, Problem>) -> Option<T> {
        line::told(read, &mut self.problems)
    }

    /// A line that is not understood: of the kind to which its first word is near; else it may be that of the table, as
    /// long as that can come, or of a partition.
    fn riddle(&mut self, line: &str) {
        self.orphans = true;
        let word = line.split_whitespace().next().unwrap_or_default();
        let gap = match line::near_start(word) {
            Some("disk") => Field::Whole,
            Some("table") => Field::Table,
            None if self.current().partitions.is_empty() => Field::Table,
            _ => Field::Kind,
        };
        self.gap(None, gap);
    }

    fn gap(&mut self, partition: Option<usize>, field: Field) {
        self.current();
        self.gaps.insert(Place { disk: self.desc.disks.len() - 1, partition, field });
    }

    fn version(&mut self, rest: &mut Rest<'_>) {
        let word = rest.need("the language's version: `desc 1`");
        let Some(word) = self.take(word) else { return };
        match word.text.parse::<u32>() {
            Ok(VERSION) => {
                let end = rest.end();
                self.take(end);
            }
            Ok(n) if n > VERSION => {
                self.newer = true;
                let what = format!(
                    "this desc is written in version {n} of the language, and this program reads {VERSION}"
                );
                self.problem(word.span, &what, "a newer ka-desc reads it");
            }
            _ => self.problem(word.span, "no version of the language", "expected `desc 1`"),
        }
    }

    fn disk(&mut self, rest: &mut Rest<'_>, first: &Word) {
        self.desc.disks.push(Disk::default());
        self.orphans = false;
        self.mark(Field::Whole, first.span);
        let name = rest.need("what the desc calls this disk, such as `disk system`");
        let Some(name) = self.take(name) else { return self.gap(None, Field::Name) };
        self.mark(Field::Name, name.span);
        self.current().name = Some(name.text.clone());
        let end = rest.end();
        self.take(end);
    }

    fn table(&mut self, rest: &mut Rest<'_>, first: &Word, known: usize) {
        if self.current().table.is_some() || !self.current().partitions.is_empty() {
            // It may be the next disk's.
            if self.gaps.contains(&Place {
                disk: self.desc.disks.len() - 1,
                partition: None,
                field: Field::Whole,
            }) {
                return;
            }
            let way_out = "it stands once for each disk, above the disk's partitions";
            return self.problem(first.span, "`table` in the wrong place", way_out);
        }
        self.mark(Field::Table, first.span);
        let word = rest.need("`gpt` or `mbr`");
        if let Some(word) = self.take(word) {
            let table = match word.text.as_str() {
                "gpt" => Ok(Table::Gpt),
                "mbr" => Ok(Table::Mbr),
                other => wrong(word, format!("`{other}` is no partition table"), "expected `gpt` or `mbr`"),
            };
            self.current().table = self.take(table);
        }
        while let Some(option) = rest.next() {
            let read = self.table_option(option, rest);
            if self.take(read).is_none() {
                rest.skip_to(|word| matches!(word.text.as_str(), "id" | "sector"));
            }
        }
        if self.problems.len() > known {
            self.gap(None, Field::Table);
        }
    }

    fn table_option(&mut self, option: &Word, rest: &mut Rest<'_>) -> Result<(), Problem> {
        match option.text.as_str() {
            "id" => {
                let word = rest.need("the table's identity")?;
                let text = &word.text;
                let (id, table, expected) = match self.current().table {
                    // Whatever it is, of a table that is not understood it may be right.
                    None => return Ok(()),
                    Some(table @ Table::Gpt) => (
                        text.parse().ok().map(TableId::Gpt),
                        table,
                        "expected a GUID, such as 8D3F2C1E-5B6A-4C7D-9E8F-0A1B2C3D4E5F",
                    ),
                    Some(table @ Table::Mbr) => (
                        mbr_id(text).map(TableId::Mbr),
                        table,
                        "expected eight hexadecimal digits, such as 0x1a2b3c4d",
                    ),
                };
                let Some(id) = id else {
                    return wrong(word, format!("`{text}` names no {table} table"), expected);
                };
                self.current().id = Some(id);
            }
            "sector" => {
                let word = rest.need("512 or 4096")?;
                let size = crate::limits::SECTOR_BYTES.into_iter().find(|s| s.to_string() == word.text);
                let Some(size) = size else {
                    let what = format!("no disk has sectors of {} bytes", word.text);
                    return wrong(word, what, "expected 512 or 4096");
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
        Ok(())
    }

    fn subvolume(&mut self, rest: &mut Rest<'_>, first: &Word, known: usize) {
        let name = rest.need("the subvolume's name, such as `subvol @home mount /home`");
        let Some(name) = self.take(name) else { return };
        let mut subvolume = Subvolume { name: name.text.clone(), mount: None, options: None };
        let mut mount = name.span;
        while let Some(option) = rest.next() {
            let read = match option.text.as_str() {
                "mount" if subvolume.mount.is_none() => {
                    rest.need("a path, such as `mount /home`").map(|path| {
                        mount = path.span;
                        subvolume.mount = Some(path.text.clone());
                    })
                }
                "options" if subvolume.options.is_none() => rest
                    .need("mount options, such as `options nodev`")
                    .map(|word| subvolume.options = Some(word.text.clone())),
                other => {
                    rest.skip_to(|word| matches!(word.text.as_str(), "mount" | "options"));
                    let way_out = "expected `mount PATH` or `options LIST`, each once";
                    wrong(option, format!("`{other}` is no option of a subvolume"), way_out)
                }
            };
            self.take(read);
        }
        if self.orphans {
            return;
        }
        let Some(last) = self.current().partitions.len().checked_sub(1) else {
            let way_out = "it stands below the line of its btrfs partition";
            return self.problem(first.span, "a subvolume of nothing", way_out);
        };
        let subvolumes = &mut self.current().partitions[last].subvolumes;
        let at = subvolumes.len();
        subvolumes.push(subvolume);
        self.mark(Field::Subvolume(at), name.span);
        self.mark(Field::SubvolumeMount(at), mount);
        if self.problems.len() > known {
            self.gap(Some(last), Field::Subvolume(at));
        }
    }

    fn partition(&mut self, rest: &mut Rest<'_>, first: &Word, known: usize) {
        let Some(said) = line::partition(rest, first, &mut self.problems) else {
            return self.riddle(&first.text);
        };
        self.orphans = false;
        self.current().partitions.push(said.partition);
        let at = self.current().partitions.len() - 1;
        for (field, span) in said.spans {
            self.mark(field, span);
        }
        if self.problems.len() > known {
            self.gap(Some(at), Field::Whole);
        }
        if said.unkind {
            self.gap(Some(at), Field::Kind);
        }
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
        let faults = if self.newer { Vec::new() } else { check::faults_but(&self.desc, &self.gaps) };
        for fault in faults {
            let whole = Place { field: Field::Whole, ..fault.place };
            let span = self.spans.get(&fault.place).or_else(|| self.spans.get(&whole)).copied();
            let span = span.unwrap_or(Span { line: 1, column: 1, width: 1 });
            self.problems.push(Problem { span, what: fault.what, way_out: fault.way_out });
        }
        if self.problems.is_empty() { Ok(self.desc) } else { Err(Problems::new(self.problems, text)) }
    }
}

fn mbr_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let hex = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| hex)
}
