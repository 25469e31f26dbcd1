//! Layouts: every plan keeps the rules of tables and disks, uses what there is, and leaves alone what stays.

use std::ops::Range;

use ka_desc::language::{Action, Disk, Kind, Partition, Size, Table, parse};
use ka_desc::layout::{Found, FoundPartition, Geometry, Misfit, Plan, Room};
use proptest::prelude::*;

mod common;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn disk(text: &str) -> Disk {
    parse(text).unwrap_or_else(|e| panic!("{e}")).disks.remove(0)
}

fn geometry(disk_bytes: u64, sector_bytes: u32) -> Geometry {
    Geometry { disk_bytes, sector_bytes }
}

/// Number, first and size of each partition in mebibytes.
fn mib(plan: &Plan) -> Vec<(u32, u64, u64)> {
    let in_mib = |sectors| plan.bytes(sectors) / MIB;
    plan.partitions.iter().map(|p| (p.number, in_mib(p.start), in_mib(p.sectors))).collect()
}

fn plan(text: &str, disk_bytes: u64, sector_bytes: u32) -> Result<Plan, Vec<Misfit>> {
    Plan::new(&disk(text), geometry(disk_bytes, sector_bytes), None)
}

/// The table that a plan makes, as one would find it.
fn found(plan: &Plan) -> Found {
    let partition = |p: &ka_desc::layout::Placed| FoundPartition {
        number: p.number,
        start: p.start,
        sectors: p.sectors,
        kind: p.kind.clone(),
        name: p.name.clone(),
        partuuid: p.partuuid.clone(),
        attributes: p.attributes,
        contents: None,
    };
    Found { table: plan.table, id: plan.id, partitions: plan.partitions.iter().map(partition).collect() }
}

#[test]
fn what_no_disk_has_is_told() {
    for text in
        ["linux 18446744073709551615B", "linux fill min 9223372036854775808B", "keep linux any at 8388608T"]
    {
        let problems = parse(text).unwrap_err().to_string();
        assert!(problems.contains("more than the largest disk has"), "{text}: {problems}");
    }
    // Together they are more than 64 bits hold.
    for frame in ["extended fill", "extended 100%"] {
        let text = format!("table mbr\n{frame}\n{}", "logical linux 9223372036854775807B\n".repeat(3));
        let disk = Geometry { disk_bytes: 1 << 40, sector_bytes: 512 };
        assert!(Plan::new(&parse(&text).unwrap().disks[0], disk, None).is_err());
    }
}

/// A text of the largest length has thousands of lines, and each is looked at a few times at most.
#[test]
fn numbers_are_counted_once() {
    let problems = parse("swap 1\n".repeat(9000)).unwrap_err().to_string();
    assert!(problems.contains("more than 128 partitions"), "{problems}");
}

#[test]
fn the_manual_s_sample_on_a_disk_of_20_gib() {
    for sector in [512, 4096] {
        let plan =
            plan("linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n", 20 * GIB, sector)
                .unwrap();
        assert_eq!(
            mib(&plan),
            [(1, 1, 3500), (2, 3501, 20480 - 3501), (5, 3502, 500), (6, 4003, 20480 - 4003)],
            "a logical has a mebibyte before it"
        );
        assert_eq!(plan.partitions[0].kind, "83");
    }
}

#[test]
fn a_gpt_leaves_its_copy_s_place_at_the_end() {
    let gpt = |text, bytes| plan(text, bytes, 512).unwrap();
    assert_eq!(mib(&gpt("esp 100\nlinux fill\n", GIB)), [(1, 1, 100), (2, 101, 922)]);
    assert_eq!(gpt("esp fill", GIB).usable, 2048..(GIB / 512 - 33));
    let to_the_last_sector = gpt("table gpt\nlinux 1022\n", GIB - MIB + 33 * 512);
    assert_eq!(to_the_last_sector.partitions[0].end(), to_the_last_sector.usable.end);
}

#[test]
fn percentages_and_minima() {
    let text = "table gpt\nlinux 25% min 3G\nlinux fill min 5G\nlinux fill\n";
    assert_eq!(
        mib(&plan(text, 100 * GIB, 512).unwrap()),
        [(1, 1, 25599), (2, 25600, 38400), (3, 64000, 38399)]
    );
    assert_eq!(mib(&plan(text, 9 * GIB, 512).unwrap()), [(1, 1, 3072), (2, 3073, 5120), (3, 8193, 1022)]);
}

#[test]
fn what_is_missing_is_said() {
    let missing = |text, bytes| plan(text, bytes, 512).unwrap_err();
    assert_eq!(
        missing("linux 3500\nswap 500\n", 4000 * MIB),
        [Misfit::TooSmall { room: Room::Disk, needed: 4000 * MIB, has: 3999 * MIB }]
    );
    assert!(missing("linux 3500\nswap 500\n", 4000 * MIB)[0].to_string().ends_with("1 MiB are missing"));
    assert!(matches!(missing("extended fill\nlogical linux 99\n", 100 * MIB)[0], Misfit::TooSmall { .. }));
    assert!(matches!(missing("linux fill xfs", 200 * MIB)[0], Misfit::TooSmall { .. }), "xfs needs 300");
    assert!(matches!(missing("linux fill", 0)[0], Misfit::TooSmall { .. }));
    assert_eq!(
        missing("table mbr sector 4096\nlinux fill", GIB),
        [Misfit::Sectors { disk: 512, desc: 4096 }]
    );
    assert_eq!(missing("linux fill", u64::MAX), [Misfit::Geometry]);
}

#[test]
fn an_mbr_ends_at_two_tebibytes() {
    let large = plan("linux 10G\nlinux fill\n", 3 << 40, 512).unwrap();
    assert_eq!(large.partitions[1].end(), 1 << 32);
    assert_eq!(large.out_of_reach_bytes(), 1 << 40);
    assert!(plan("linux 2T\n", 3 << 40, 512).is_err());
    assert!(plan("linux 2T\n", 3 << 40, 4096).is_ok());
    assert!(plan("table gpt\nlinux fill\n", 3 << 40, 512).unwrap().partitions[0].end() > 1 << 32);
}

/// A dual-boot disk: ESP, reserved, Windows, Linux of old, recovery at the end.
fn dual_boot() -> Found {
    let text = "table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f\nesp 100\nmsr 16\ndata 60G\nlinux 30G number 5\n\
                linux 1G number 6\nrecovery 600 number 4 attributes 0,63\n";
    let plan = plan(text, 100 * GIB, 512).unwrap();
    let mut found = found(&plan);
    for p in &mut found.partitions {
        p.partuuid = Some(format!("GUID {}", p.number));
        p.name = Some(format!("name {}", p.number));
    }
    found
}

const SHARED: &str = "keep esp 100\nkeep msr any\nkeep data 60G\nlinux fill number 5\nswap 4G number 6\n\
                      keep recovery 600 number 4\nlinux fill\n";

#[test]
fn what_is_kept_stays_and_the_others_share_the_rooms_between() {
    let found = dual_boot();
    let plan = Plan::new(&disk(SHARED), geometry(100 * GIB, 512), Some(&found)).unwrap();
    let before = 1 + 100 + 16 + 60 * 1024;
    assert_eq!(
        mib(&plan)[3..],
        [
            (5, before, 27 * 1024),
            (6, before + 27 * 1024, 4096),
            (4, before + 31 * 1024, 600),
            (7, before + 31 * 1024 + 600, 100 * 1024 - 1 - (before + 31 * 1024 + 600)),
        ]
    );
    for at in [0, 1, 2, 5] {
        let (is, was) = (&plan.partitions[at], found.partition(plan.partitions[at].number).unwrap());
        assert_eq!((is.start, is.sectors, is.attributes), (was.start, was.sectors, was.attributes));
        assert_eq!((&is.name, &is.partuuid, &is.kind), (&was.name, &was.partuuid, &was.kind));
    }
    assert_eq!(plan.id, found.id);
}

#[test]
fn what_is_kept_must_be_just_so() {
    let refused = |text: &str, found: Option<&Found>| {
        Plan::new(&disk(text), geometry(100 * GIB, 512), found).unwrap_err()
    };
    let found = dual_boot();
    assert_eq!(refused(SHARED, None), [Misfit::NoTable]);
    let mbr = Found { table: Table::Mbr, ..found.clone() };
    assert_eq!(refused(SHARED, Some(&mbr)), [Misfit::OtherTable { disk: Table::Mbr }]);
    for (line, said) in [
        ("keep esp 101", "its size in sectors is 204800 instead of 206848"),
        ("table gpt\nkeep data 100", "its type is C12A7328"),
        ("keep esp 100 at 2", "its first sector is 2048 instead of 4096"),
        ("keep esp 100 name other", "its name is name 1 instead of other"),
        (
            "keep esp 100 partuuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f",
            "its GUID is GUID 1 instead of 8D3F2C1E",
        ),
        ("keep esp 100 vfat", "its file system is none instead of vfat"),
        ("keep esp 100 bootable", "it is not bootable"),
        ("keep esp 100 attributes 63", "lacks attributes"),
        ("keep esp 100 number 9", "partition 9, which the desc keeps or reuses, is not there"),
        ("table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e50\nkeep esp 100", "is it the right disk?"),
    ] {
        let said_now = refused(line, Some(&found))[0].to_string();
        assert!(said_now.contains(said), "{line}: {said_now}");
    }
    let mut broken = found.clone();
    broken.partitions[1].start = 100;
    assert_eq!(refused(SHARED, Some(&broken)), [Misfit::Broken(1)]);
    // It would say more to sfdisk than its name.
    broken = found.clone();
    broken.partitions[0].name = Some("x\", size=5, name=\"y".into());
    assert_eq!(refused(SHARED, Some(&broken)), [Misfit::Name(1)]);
    let too_much = format!("{SHARED}linux 9G\n");
    assert!(matches!(refused(&too_much, Some(&found))[0], Misfit::TooSmall { room: Room::Behind(4), .. }));
}

fn sizes() -> impl Strategy<Value = Geometry> {
    let bytes = prop_oneof![0..4 * GIB, GIB..200 * GIB, GIB..(8 << 40)];
    (bytes, prop_oneof![Just(512), Just(4096)]).prop_map(|(bytes, sector)| geometry(bytes, sector))
}

/// The rules that hold for every plan.
fn assert_sound(plan: &Plan) -> Result<(), TestCaseError> {
    let mib_sectors = MIB / u64::from(plan.geometry.sector_bytes);
    let total = plan.geometry.disk_bytes / u64::from(plan.geometry.sector_bytes);
    let range = |p: &ka_desc::layout::Placed| p.start..p.end();
    let frame = plan.partitions.iter().find(|p| p.line.kind == Kind::Extended).map(range);
    let mut outer: Vec<Range<u64>> = Vec::new();
    // A logical takes the mebibyte before it, for its link of the chain.
    let mut inner: Vec<Range<u64>> = Vec::new();
    for p in &plan.partitions {
        prop_assert!(p.sectors > 0);
        if p.line.action == Action::Make {
            prop_assert_eq!(p.start % mib_sectors, 0, "a whole mebibyte");
        }
        if p.line.logical {
            let frame = frame.clone().unwrap();
            prop_assert!(
                p.start >= frame.start + mib_sectors && p.end() <= frame.end,
                "within the extended one"
            );
            prop_assert!(p.number >= 5);
            inner.push(p.start - mib_sectors..p.end());
        } else {
            prop_assert!(plan.table == Table::Gpt || p.number <= 4);
            outer.push(range(p));
        }
        if let Size::Bytes(bytes) = p.line.size {
            prop_assert_eq!(p.sectors, bytes.div_ceil(u64::from(plan.geometry.sector_bytes)));
        }
        prop_assert!(plan.bytes(p.sectors) >= p.line.min_bytes.unwrap_or(0));
        prop_assert!(plan.table == Table::Gpt || p.end() <= 1 << 32);
        prop_assert!(
            plan.table == Table::Mbr || p.end() < total - 16384 / u64::from(plan.geometry.sector_bytes)
        );
        prop_assert!(p.end() <= total, "inside the disk");
    }
    for mut ranges in [outer, inner] {
        ranges.sort_by_key(|r| r.start);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "no overlap");
    }
    let mut numbers: Vec<u32> = plan.partitions.iter().map(|p| p.number).collect();
    numbers.sort_unstable();
    prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    Ok(())
}

/// Where something is to fill a room, less than a mebibyte of it is left, and the shares are equal.
fn assert_filled(plan: &Plan, logical: bool, room_end: u64) -> Result<(), TestCaseError> {
    let lines: Vec<_> = plan.partitions.iter().filter(|p| p.line.logical == logical).collect();
    let fills: Vec<_> = lines.iter().filter(|p| p.line.size == Size::Fill).collect();
    if fills.is_empty() {
        return Ok(());
    }
    let mib_sectors = MIB / u64::from(plan.geometry.sector_bytes);
    let end = lines.iter().map(|p| p.end()).max().unwrap();
    prop_assert!(room_end - end < mib_sectors, "{} sectors are left", room_end - end);
    // Who has more than others by more than the odd mebibyte has it because it needs it.
    let least = fills.iter().map(|p| p.sectors).min().unwrap();
    for p in fills.iter().filter(|p| p.line.kind != Kind::Extended) {
        let needs = p.line.min_bytes.unwrap_or(0).max(p.line.formatted().map_or(0, |fs| fs.min_bytes()));
        let needs = needs.div_ceil(MIB) * mib_sectors;
        prop_assert!(p.sectors <= least + mib_sectors || p.sectors == needs);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_keeps_the_rules(disk in common::disk(), geometry in sizes()) {
        let plan = Plan::new(&disk, geometry, None);
        prop_assert_eq!(&plan, &Plan::new(&disk, geometry, None), "same input, same output");
        match plan {
            Ok(plan) => {
                assert_sound(&plan)?;
                assert_filled(&plan, false, plan.usable.end)?;
                let frame = plan.partitions.iter().find(|p| p.line.kind == Kind::Extended);
                if let Some(frame) = frame {
                    assert_filled(&plan, true, frame.end())?;
                }
                prop_assert_eq!(plan.differences(&found(&plan)), Vec::<String>::new());
            }
            Err(misfits) => {
                for misfit in &misfits {
                    prop_assert!(matches!(misfit, Misfit::TooSmall { needed, has, .. } if needed > has), "{misfit}");
                }
            }
        }
    }

    /// Without percentages, a disk larger by what is missing is large enough, and one sector less is not.
    #[test]
    fn what_is_said_to_be_missing_is_just_enough(disk in common::disk(), geometry in sizes()) {
        if disk.partitions.iter().any(|p| matches!(p.size, Size::Percent(_))) {
            return Ok(());
        }
        let Err(misfits) = Plan::new(&disk, geometry, None) else { return Ok(()) };
        let [Misfit::TooSmall { room: Room::Disk, needed, has }] = misfits[..] else { return Ok(()) };
        let sector = u64::from(geometry.sector_bytes);
        let bytes = geometry.disk_bytes / sector * sector + needed - has;
        if has == 0 || bytes >= 2 << 40 {
            return Ok(());
        }
        let retry = |disk_bytes| Plan::new(&disk, Geometry { disk_bytes, ..geometry }, None);
        let too_small_disk = |misfits: &[Misfit]| matches!(misfits[0], Misfit::TooSmall { room: Room::Disk, .. });
        prop_assert!(retry(bytes).err().is_none_or(|misfits| !too_small_disk(&misfits)));
        prop_assert!(too_small_disk(&retry(bytes - sector).unwrap_err()));
    }

    /// Some of a disk's partitions stay, others come: nobody who stays is moved, and the rules hold.
    #[test]
    fn what_stays_is_not_moved(old in common::gpt(), new in common::gpt(), geometry in sizes(), stays in any::<u16>()) {
        let Ok(before) = Plan::new(&old, geometry, None) else { return Ok(()) };
        let found = found(&before);
        let keep = |p: &ka_desc::layout::Placed| Partition {
            action: Action::Keep,
            number: Some(p.number),
            ..Partition::new(p.line.kind, Size::Any)
        };
        let kept = before.partitions.iter().enumerate().filter(|(at, _)| stays >> (at % 16) & 1 == 1);
        let mut lines: Vec<Partition> = kept.map(|(_, p)| keep(p)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        for (at, p) in new.partitions.iter().take(4).enumerate() {
            lines.insert((at * 3).min(lines.len()), p.clone());
        }
        let disk = Disk { id: found.id, partitions: lines, ..old };
        let Ok(after) = Plan::new(&disk, geometry, Some(&found)) else { return Ok(()) };
        assert_sound(&after)?;
        for p in after.partitions.iter().filter(|p| p.line.action == Action::Keep) {
            let was = found.partition(p.number).unwrap();
            prop_assert_eq!((p.start, p.sectors, &p.kind), (was.start, was.sectors, &was.kind));
            prop_assert_eq!((&p.name, &p.partuuid, p.attributes), (&was.name, &was.partuuid, was.attributes));
        }
    }
}
