//! Text to [`Desc`], line by line; a line that is wrong does not hide what is wrong with the others.
//!
//! Here is what a line can see by itself. What takes the whole desc to see is in [`super::check`], which names places
//! of the desc; this file remembers where in the text they are.

use std::collections::BTreeMap;

use super::check::{self, Field, Place};
use super::lex::{Rest, Word, words, wrong};
use super::line;
use super::problem::{Problem, Problems, Span};
use super::{Desc, Disk, Subvolume, Table, TableId};
use crate::limits::TEXT_BYTES_MAX;

/// The version of the language that this crate reads. It contains the language of ka-deploy 0.94.
pub const VERSION: u32 = 1;

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

impl Reader {
    fn line(&mut self, words: &[Word]) -> Result<(), Problem> {
        let Some(first) = words.first() else { return Ok(()) };
        let mut rest = Rest::behind(first, &words[1..]);
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
        let (partition, spans) = line::partition(rest, first)?;
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

fn mbr_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let hex = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| hex)
}
