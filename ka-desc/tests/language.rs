//! The language: what 2001 wrote, what came since, and what is no desc.

use ka_desc::language::{Action, Desc, Fs, Kind, Partition, Problems, Size, Table, TableId, parse};
use proptest::prelude::*;

mod common;

fn problems(text: &str) -> Problems {
    parse(text).expect_err(text)
}

fn partitions(text: &str) -> Vec<Partition> {
    let desc = parse(text).unwrap_or_else(|e| panic!("{}", e.render("desc")));
    desc.disks.into_iter().next().unwrap().partitions
}

#[test]
fn the_manual_s_sample_means_what_it_meant() {
    let desc = parse("linux 3500\nextended fill\nlogical swap 500\nlogical linux fill").unwrap();
    let disk = &desc.disks[0];
    let logical = |p: Partition| Partition { logical: true, ..p };
    assert_eq!(disk.table(), Table::Mbr);
    assert_eq!(
        disk.partitions,
        [
            Partition::new(Kind::Linux, Size::Bytes(3500 << 20)),
            Partition::new(Kind::Extended, Size::Fill),
            logical(Partition::new(Kind::Swap, Size::Bytes(500 << 20))),
            logical(Partition::new(Kind::Linux, Size::Fill)),
        ]
    );
    assert_eq!(disk.numbers(), [1, 2, 5, 6]);
}

#[test]
fn whatever_2001_accepted_on_purpose_is_accepted() {
    assert_eq!(partitions("# a comment\n  # an indented one\nlinux 10 # and one behind\n").len(), 1);
    assert_eq!(partitions("type83 10"), partitions("linux 10"));
    assert_eq!(partitions("type82 10"), partitions("swap 10"));
    assert_eq!(partitions("type7 10")[0].kind, Kind::Mbr(7));
    assert_eq!(partitions("typeC 10")[0].kind, Kind::Mbr(0x0c));
    assert_eq!(partitions("type8e fill")[0].kind, Kind::Mbr(0x8e), "an LVM's partition, if not its volumes");
    // The lab's golden layouts.
    assert_eq!(partitions("swap 128\nlinux 2540\nextended fill\nlogical linux fill\n").len(), 4);
    assert_eq!(parse("esp 64\nlinux 2478\nswap 128\nlinux fill\n").unwrap().disks[0].table(), Table::Gpt);
    assert_eq!(parse("bios_boot 1\nswap 128\nlinux fill\n").unwrap().disks[0].table(), Table::Gpt);
}

/// Each accident of the original (a text that it took for something else), and what is said of it.
#[test]
fn accidents_of_2001_are_errors_or_mean_what_they_look_like() {
    assert_eq!(partitions("linux 10\n\nlinux 20\n").len(), 2, "a blank line was a bogus partition");
    assert_eq!(partitions("linux 10\nlinux 20").len(), 2, "a last line without newline was dropped");
    assert_eq!(
        partitions("linux fill\nlinux fill").len(),
        2,
        "the first of two fills took all; now they share"
    );
    for (text, what) in [
        ("linux\n", "ends too early"),              // +M
        ("linux 10 20 30\n", "`20` says nothing"),  // the rest was ignored
        ("typexx 10\n", "`xx` is no type"),         // fdisk was asked again
        ("type183 10\n", "`183` is no type"),       // the same
        ("typelinux 10\n", "`linux` is no type"),   // became type83
        ("linuxswap 10\n", "no kind of partition"), // became 8382
        ("type05 10\n", "extended"),                // an extended partition without logicals' numbers
        ("typeee 10\n", "GPT"),                     // a disk that tools take for a GPT
        ("extended 99\nlogical extended 9\n", "within the extended"),
        ("linux 1\nlinux 1\nlinux 1\nlinux 1\nlinux 1\n", "four primaries"), // fdisk and the script lost step
        ("logical linux 10\n", "without an extended"),
        ("linux -5\n", "`-5` is no size"),
        ("linux 0\n", "no size"),
        ("Linux 10\n", "no kind of partition"),
        ("", "empty"),
    ] {
        let said = problems(text).render("desc");
        assert!(said.contains(what), "{text:?} said: {said}");
    }
}

#[test]
fn what_came_since() {
    let text = r#"
desc 1
disk system
table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f sector 512
esp 512M mount /boot/efi options umask=0077
keep data 60G ntfs label "Old Windows" at 117 number 3
linux 30% min 8G ext4 label root uuid 8D3F2C1E-5b6a-4c7d-9e8f-0a1b2c3d4e5f mount / name "the root" attributes 0,63
reuse linux any xfs mount /home
linux fill btrfs options compress=zstd:1
  subvol @var mount /var
  subvol @snapshots
disk scratch
linux 1.5T ext4 mount /scratch bootable
"#;
    let desc = parse(text).unwrap_or_else(|e| panic!("{e}"));
    let [system, scratch] = &desc.disks[..] else { panic!("two disks") };
    assert_eq!((system.table(), scratch.table()), (Table::Gpt, Table::Mbr));
    assert!(matches!(system.id, Some(TableId::Gpt(_))) && system.sector_bytes == Some(512));
    let [esp, windows, root, home, tree] = &system.partitions[..] else { panic!("five partitions") };
    assert_eq!((esp.fs, esp.file_system()), (None, Some(Fs::Vfat)));
    assert_eq!((windows.action, windows.label.as_deref()), (Action::Keep, Some("Old Windows")));
    assert_eq!((root.size, root.min_bytes), (Size::Percent(30), Some(8 << 30)));
    assert_eq!(root.uuid.as_deref(), Some("8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f"));
    assert_eq!(root.attributes, 1 << 63 | 1);
    assert_eq!((home.action, home.size), (Action::Reuse, Size::Any));
    assert_eq!(tree.subvolumes[0].mount.as_deref(), Some("/var"));
    assert_eq!(system.numbers(), [1, 3, 2, 4, 5]);
    assert!(scratch.partitions[0].bootable);
    assert_eq!(parse(desc.to_string()).unwrap(), desc);
}

#[test]
fn all_errors_come_at_once_with_line_column_caret_and_way_out() {
    let text = "linux 20G ext5\n\tswap lots\nlvm 3\ndisk a b\n";
    let said = problems(text).render("lab.desc");
    let expected = "\
lab.desc:1:1: these partitions belong to no disk
 1 | linux 20G ext5
   | ^
   = a line `disk NAME` stands above them
lab.desc:1:11: `ext5` says nothing of a partition
 1 | linux 20G ext5
   |           ^^^^
   = did you mean `ext2`? expected a file system (ext2, ext3, ext4, xfs, btrfs, vfat, swap, jfs, f2fs, ntfs), or one \
of label, uuid, mount, options, min, bootable, number, at, name, partuuid, attributes; a comment begins with #
lab.desc:2:7: `lots` is no size
 2 | \tswap lots
   | \t     ^^^^
   = expected mebibytes, such as 3500, or 20G, 512M, 30%, or `fill`
lab.desc:3:1: `lvm` is not done by a desc: LVM spans partitions and disks, and a desc describes disks one by one
 3 | lvm 3
   | ^^^
   = make the bare partition (`type8e` in an MBR, `typeE6D6D379-F507-44C2-A23C-238F2A3DF928` in a GPT), and run \
pvcreate on it
lab.desc:4:1: a disk without partitions
 4 | disk a b
   | ^^^^
   = a line for each partition, such as `linux 3500`
lab.desc:4:8: one word too many
 4 | disk a b
   |        ^
   = the line ends before it
";
    assert_eq!(said, expected);
}

/// The descs in the language's own manual: its indented blocks, but for the grammar and what `check` says.
#[test]
fn the_manual_s_examples_are_descs() {
    let manual = include_str!("../LANGUAGE.md");
    let blocks = manual.split("\n\n").filter(|block| block.lines().all(|line| line.starts_with("    ")));
    let descs: Vec<&str> = blocks.filter(|b| !b.contains("  = ") && !b.starts_with("    desc ")).collect();
    assert_eq!(descs.len(), 5, "{descs:#?}");
    for text in descs {
        parse(text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    }
}

/// What is wrong: the text, line and column, and what is said.
const WRONG: &[(&str, usize, usize, &str)] = &[
    ("desc 2\n", 1, 6, "version 2"),
    ("linux 1\ndesc 1\n", 2, 1, "not the first line"),
    ("table gtp\nlinux 1\n", 1, 7, "no partition table"),
    ("table gpt id 5\nlinux 1\n", 1, 14, "names no gpt table"),
    ("table mbr id 12345678\nlinux 1\n", 1, 14, "names no mbr table"),
    ("table mbr sector 520\nlinux 1\n", 1, 18, "520"),
    ("linux 1\ntable gpt\n", 2, 1, "wrong place"),
    ("linux 1\ndisk a\nlinux 1\n", 1, 1, "belong to no disk"),
    ("disk a\nlinux 1\ndisk a\nlinux 1\n", 3, 6, "a disk a already"),
    ("disk a\n", 1, 1, "without partitions"),
    ("table gpt\nlogical linux 1\n", 2, 1, "no logical"),
    ("table gpt\ntype83 1\ntype0c 1\n", 3, 1, "no `type0c`"),
    ("table mbr\nmsr 16\n", 2, 1, "no `msr`"),
    ("table mbr\nlinux 1 name x\n", 2, 14, "no name"),
    ("extended 9\nextended 9\n", 2, 1, "second extended"),
    ("linux 9 bootable\nlinux 9 bootable\n", 2, 9, "second bootable"),
    ("linux 9 number 2\nlinux 9 number 2\n", 2, 16, "taken"),
    ("linux 9 number 5\n", 1, 1, "four primaries"),
    ("linux any\n", 1, 7, "any size"),
    ("keep linux fill\n", 1, 12, "already has its size"),
    ("keep extended any\n", 1, 1, "cannot be kept"),
    ("reuse linux any\n", 1, 1, "nothing is done"),
    ("linux 9 min 3\n", 1, 13, "does not depend"),
    ("linux 9 at 3\n", 1, 12, "themselves"),
    ("linux 9 xfs\n", 1, 7, "too small for xfs"),
    ("linux 9 label x\n", 1, 15, "belongs to a file system"),
    ("linux 900 ext4 label seventeen-letters\n", 1, 22, "no label"),
    ("linux 900 ext4 uuid 1234-5678\n", 1, 21, "no UUID"),
    ("data 900 ntfs uuid 01D4F3A2B5C6E7F8\n", 1, 20, "takes no UUID"),
    ("swap 9 ext4\n", 1, 8, "ext4 on it"),
    ("linux 9 swap\n", 1, 9, "swap on it"),
    ("swap 9 mount /x\n", 1, 14, "not mounted"),
    ("linux 9 ext4 mount home\n", 1, 20, "no place to mount"),
    ("linux 9 ext4 mount /a/../b\n", 1, 20, "no place to mount"),
    ("linux 9 ext4 mount /\nlinux 9 ext4 mount /\n", 2, 20, "something else is mounted"),
    ("linux 9 ext4 options ro\n", 1, 22, "nothing that is mounted"),
    ("linux 9 ext4 mount / options \"a b\"\n", 1, 30, "no mount options"),
    ("linux 9 ext4 ext4\n", 1, 14, "said twice"),
    ("linux 9 ext4 label\n", 1, 19, "ends too early"),
    ("linux 9 ext4\n subvol x\n", 2, 9, "no subvolumes"),
    ("subvol x\nlinux 1\n", 1, 1, "of nothing"),
    ("linux 200 btrfs\nsubvol /x\n", 2, 8, "no name for a subvolume"),
    ("linux 200 btrfs\nsubvol x\nsubvol x\n", 3, 8, "twice"),
    ("msr 16 vfat\n", 1, 8, "has no file system"),
    ("linux 20 attributes 2\n", 1, 21, "`bootable`"),
    ("linux 20 attributes 5\n", 1, 21, "reserved"),
    ("linux 20 partuuid 00000000-0000-0000-0000-000000000000\n", 1, 19, "names nothing"),
    ("type00000000-0000-0000-0000-000000000000 20\n", 1, 1, "not used"),
    ("linux 20 luks\n", 1, 10, "needs a secret"),
    ("linux 20 reiserfs\n", 1, 10, "no longer"),
    ("linux 101%\n", 1, 7, "no share"),
    ("linux 10 \"label\" x\n", 1, 10, "without its word"),
    ("\"linux\" 10\n", 1, 1, "does not begin with a quote"),
    ("linux 60%\nlinux 50%\n", 2, 7, "more than all of the disk"),
    ("extended 99\nlogical linux 60\nlogical linux 40\n", 1, 10, "too small for its logicals"),
    ("linux 9 bootable bootable\n", 1, 18, "said twice"),
    ("linux 9 number 0\n", 1, 16, "no partition's number"),
    ("linux 9 at x ext4 label y\n", 1, 12, "no place"),
    ("linux fill min x ext4\n", 1, 16, "no size"),
    ("linux 9 attributes 64\n", 1, 20, "no attribute"),
    ("linux 9 partuuid 7\n", 1, 18, "no GUID"),
    ("linux 9 extt4 label x mount /x\n", 1, 9, "did you mean `ext4`"),
    ("linux ext4 label x\n", 1, 7, "the size is missing"),
    ("linux ext4 20G\n", 1, 7, "the size is missing"),
    ("linux extt4 20G label x\n", 1, 7, "no size"),
    ("lunix 20G ext4 label x\n", 1, 1, "did you mean `linux`"),
    ("lgical linux 20G ext4\n", 1, 1, "did you mean `logical`"),
    ("tabel gpt\nlogical linux 5\n", 1, 1, "did you mean `table`"),
    ("keep\nlogical linux 5\n", 1, 5, "ends too early"),
    ("swp 4G mount /x\n", 1, 1, "did you mean `swap`"),
    ("linux 200 btrfs\nsubvol x opts y\n", 2, 10, "no option of a subvolume"),
    ("linux 200 btrfss label x\nsubvol x mount /x\n", 1, 11, "did you mean `btrfs`"),
    ("linux 9 ext4 label \"x\n", 1, 20, "not closed"),
    ("linux 9 ext4 label \"\\n\"\n", 1, 21, "backslash"),
    ("linux 9 ext4\u{7}\n", 1, 13, "control character"),
    ("linux 9 ext4 label\"x\"\n", 1, 19, "next to a word"),
];

fn said(problems: &Problems, line: usize, column: usize, what: &str) -> bool {
    problems.iter().any(|p| {
        (p.span.line, p.span.column) == (line, column) && (p.what.contains(what) || p.way_out.contains(what))
    })
}

#[test]
fn what_is_no_desc() {
    for (text, line, column, what) in WRONG {
        let problems = problems(text);
        assert!(said(&problems, *line, *column, what), "{text:?}: {problems}");
        assert_eq!(problems.iter().count(), 1, "nothing is told that is not so: {problems}");
    }
}

/// A mistake on one disk hides none on the next.
#[test]
fn nothing_that_is_wrong_hides_another() {
    let alone = |text: &str| !text.contains("desc ") && !text.contains("disk ");
    let wrong: Vec<_> = WRONG.iter().filter(|(text, ..)| alone(text)).collect();
    for (first, line, column, what) in &wrong {
        for (second, second_line, second_column, second_what) in &wrong {
            let text = format!("disk a\n{first}disk b\n{second}");
            let problems = problems(&text);
            let lines = 2 + first.lines().count();
            assert!(said(&problems, line + 1, *column, what), "{text}: {problems}");
            assert!(said(&problems, second_line + lines, *second_column, second_what), "{text}: {problems}");
        }
    }
}

/// One of each kind of mistake on one disk: in a word, between words, between lines.
#[test]
fn whatever_is_wrong_with_a_disk_is_said_at_once() {
    let text = b"table mbr sector 513\nlunix 20G\nlinux 9 xfs lable \"my disk\" mount home\n\xff\n\
        swap lots ext4\nlinux 5 bootable\nlinux 5 bootable label \"x\nlinux 5 name x\nkeep data fill\n\
        linux 5 btrfss\n subvol /x mount home opts y\n subvol /x\n";
    let problems = parse(text).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.span.line, p.span.column)).collect();
    let expected = [
        (1, 18),  // no such sectors
        (2, 1),   // no such kind
        (3, 7),   // too small for xfs
        (3, 13),  // no such option
        (3, 35),  // no place to mount
        (4, 1),   // not UTF-8
        (5, 6),   // no size
        (5, 11),  // swap with ext4
        (7, 1),   // the fifth primary
        (7, 9),   // second bootable
        (7, 24),  // not closed
        (8, 14),  // no names in an MBR
        (9, 11),  // it has its size
        (10, 9),  // no such option
        (11, 9),  // no name for a subvolume
        (11, 18), // no place to mount
        (11, 23), // no such option
        (12, 9),  // no name for a subvolume
        (12, 9),  // the same one twice
    ];
    assert_eq!(places, expected, "{problems}");
}

#[test]
fn what_is_no_text_is_bounded() {
    assert!(problems(&"#".repeat(70_000)).to_string().contains("64 KiB"));
    assert!(parse(b"linux 1\n\xff\n").unwrap_err().to_string().contains("desc:2:1: this is not UTF-8"));
    assert!(problems(&"x\n".repeat(100)).render("f").contains("80 more problems"));
    assert_eq!(
        parse("\u{feff}linux 10\r\nswap 5\r\n").unwrap().disks[0].partitions.len(),
        2,
        "written on Windows"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn reading_what_was_printed_gives_the_same(disk in common::disk()) {
        let desc = Desc { disks: vec![disk] };
        let text = desc.to_string();
        let again = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}")))?;
        prop_assert_eq!(&again, &desc);
        prop_assert_eq!(again.to_string(), text);
    }

    /// One slip, and nothing else is said to be wrong.
    #[test]
    fn a_slip_is_no_fault_of_other_lines(disk in common::disk(), at: proptest::sample::Index, cut: bool) {
        let text = Desc { disks: vec![disk] }.to_string();
        let starts: Vec<usize> = text.match_indices(|c: char| !c.is_whitespace()).map(|(at, _)| at)
            .filter(|at| text[..*at].ends_with(char::is_whitespace) || *at == 0).collect();
        let at = *at.get(&starts);
        let end = text[at..].find(char::is_whitespace).map_or(text.len(), |len| at + len);
        let slip = if cut { "" } else { &text[at..end] };
        let wrong = format!("{}{slip}~{}", &text[..at], &text[end..]);
        let line = text[..at].lines().count() + usize::from(text[..at].ends_with('\n') || at == 0);
        for problem in parse(&wrong).err().iter().flat_map(Problems::iter) {
            prop_assert_eq!(problem.span.line, line, "{}\n{:?}", wrong, problem);
        }
    }

    #[test]
    fn whatever_is_read_and_printed_is_read_again(words in proptest::collection::vec(word(), 0..40)) {
        let text = words.join(" ").replace(" \n ", "\n");
        match parse(&text) {
            Ok(desc) => prop_assert_eq!(parse(desc.to_string()), Ok(desc)),
            Err(problems) => prop_assert!(problems.iter().count() > 0 && !problems.render("f").is_empty()),
        }
    }
}

/// Words that a desc may have, so that random texts come near to descs.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "linux|swap|extended|logical|esp|keep|reuse|disk|table|gpt|mbr|subvol|ext4|btrfs|label|mount|fill|min|number",
        "\n|\n|\n|[0-9]{1,4}|[0-9]{1,2}%|/[a-z]{1,2}|\"[a-z ]{0,3}\"|#|.{1,3}",
    ]
}
