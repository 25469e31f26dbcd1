//! Random descs without faults, for the properties.

use ka_desc::language::{Desc, Disk, Fs, Guid, Kind, Partition, Size, Subvolume, Table, TableId, faults};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;

/// A new partition; what does not go together is filtered later.
fn partition(table: Table) -> impl Strategy<Value = Partition> {
    let kind = match table {
        Table::Mbr => prop_oneof![
            5 => Just(Kind::Linux),
            1 => Just(Kind::Swap),
            1 => Just(Kind::Esp),
            1 => Just(Kind::Data),
            1 => (1..=0x7f_u8).prop_filter("no frame", |n| ![5, 0x0f].contains(n)).prop_map(Kind::Mbr),
        ]
        .boxed(),
        Table::Gpt => prop_oneof![
            5 => Just(Kind::Linux),
            1 => Just(Kind::Swap),
            1 => Just(Kind::Esp),
            1 => Just(Kind::BiosBoot),
            1 => Just(Kind::Msr),
            1 => Just(Kind::Recovery),
            1 => (1..=u128::MAX).prop_map(|n| Kind::Gpt(Guid(n))),
        ]
        .boxed(),
    };
    let size = prop_oneof![
        3 => (1..5000_u64).prop_map(|n| Size::Bytes(n << 20)),
        1 => (1..(1_u64 << 33)).prop_map(Size::Bytes),
        1 => (1..40_u8).prop_map(Size::Percent),
        2 => Just(Size::Fill),
    ];
    let table_words = (
        of("[^\"\\\\\\p{C}]{1,12}"),
        of(1..=u128::MAX),
        prop_oneof![Just(0), Just(1), Just(1 << 63 | 1 << 60)],
    );
    (kind, size, weighted(0.3, 1..900_u64), any::<bool>(), table_words, contents()).prop_map(
        move |(kind, size, min, bootable, (name, partuuid, attributes), contents)| {
            let gpt = table == Table::Gpt;
            let depends = matches!(size, Size::Fill | Size::Percent(_));
            let mut p = Partition {
                min_bytes: min.filter(|_| depends).map(|n| n << 20),
                bootable: bootable && gpt,
                name: name.filter(|_| gpt),
                partuuid: partuuid.filter(|_| gpt).map(Guid),
                attributes: if gpt { attributes } else { 0 },
                ..Partition::new(kind, size)
            };
            if kind == Kind::Linux {
                p = Partition {
                    fs: contents.fs,
                    label: contents.label,
                    uuid: contents.uuid,
                    mount: contents.mount,
                    options: contents.options,
                    subvolumes: contents.subvolumes,
                    ..p
                };
            }
            p
        },
    )
}

/// What is on a partition: a partition of which only that counts.
fn contents() -> impl Strategy<Value = Partition> {
    let fs = prop_oneof![Just(Fs::Ext4), Just(Fs::Ext2), Just(Fs::Xfs), Just(Fs::Btrfs), Just(Fs::F2fs)];
    let path = "(/[a-z# \"é]{1,4}){1,3}";
    let options = "[a-z]{1,5}(,[a-z=:]{1,5}){0,2}";
    let subvolume =
        ("@?[a-z]{1,6}(/[a-z]{1,3})?", of(path), of(options)).prop_map(|(name, mount, options)| Subvolume {
            name,
            options: options.filter(|_| mount.is_some()),
            mount,
        });
    (of(fs), of("[^\\p{C}-]{1,4}"), of(any::<u128>()), of(path), of(options), vec(subvolume, 0..3)).prop_map(
        |(fs, label, uuid, mount, options, subvolumes)| Partition {
            fs,
            label: label.filter(|_| fs.is_some()),
            uuid: uuid.filter(|_| fs.is_some()).map(|n| format!("{:#}", Guid(n))),
            options: options.filter(|_| fs.is_some() && mount.is_some()),
            mount: mount.filter(|_| fs.is_some()),
            subvolumes: if fs == Some(Fs::Btrfs) { subvolumes } else { Vec::new() },
            ..Partition::new(Kind::Linux, Size::Fill)
        },
    )
}

fn mbr() -> impl Strategy<Value = Vec<Partition>> {
    let logicals = vec(partition(Table::Mbr), 0..6);
    let frame = prop_oneof![Just(Size::Fill), Just(Size::Percent(60)), Just(Size::Bytes(30 << 30))];
    (vec(partition(Table::Mbr), 0..=3), of((frame, logicals, 0..4_usize)), any::<bool>()).prop_map(
        |(mut primaries, extended, active)| {
            if let Some(first) = primaries.first_mut() {
                first.bootable = active;
            }
            if let Some((size, logicals, at)) = extended {
                primaries.insert(at.min(primaries.len()), Partition::new(Kind::Extended, size));
                primaries.extend(logicals.into_iter().map(|p| Partition { logical: true, ..p }));
            }
            primaries
        },
    )
}

/// One disk without faults.
#[allow(dead_code, reason = "not every test file wants every kind of disk")]
pub(crate) fn disk() -> impl Strategy<Value = Disk> {
    let mbr = (mbr(), of(any::<u32>())).prop_map(|(partitions, id)| Disk {
        table: Some(Table::Mbr),
        id: id.map(TableId::Mbr),
        partitions,
        ..Disk::default()
    });
    prop_oneof![gpt(), without_faults(mbr)]
}

/// One disk with a GPT, without faults.
pub(crate) fn gpt() -> impl Strategy<Value = Disk> {
    let lines = vec(partition(Table::Gpt), 1..12);
    let gpt = (lines, of(1..=u128::MAX)).prop_map(|(partitions, id)| Disk {
        table: Some(Table::Gpt),
        id: id.map(|id| TableId::Gpt(Guid(id))),
        partitions,
        ..Disk::default()
    });
    without_faults(gpt)
}

fn without_faults(disk: impl Strategy<Value = Disk>) -> impl Strategy<Value = Disk> {
    disk.prop_map(without_twins)
        .prop_filter("faults", |disk| faults(&Desc { disks: vec![disk.clone()] }).is_empty())
}

/// Sizes that are too small and mount points that are taken would leave too few descs without faults.
fn without_twins(mut disk: Disk) -> Disk {
    let mut paths = Vec::new();
    for p in &mut disk.partitions {
        if let (Some(fs), Size::Bytes(bytes)) = (p.formatted(), &mut p.size) {
            *bytes = (*bytes).max(fs.min_bytes());
        }
        let mounts = p.subvolumes.iter_mut().map(|s| (&mut s.mount, &mut s.options));
        for (mount, options) in mounts.chain([(&mut p.mount, &mut p.options)]) {
            if mount.as_ref().is_some_and(|path| paths.contains(path)) {
                (*mount, *options) = (None, None);
            }
            paths.extend(mount.clone());
        }
        let mut names = Vec::new();
        p.subvolumes.retain(|s| {
            !names.contains(&s.name) && {
                names.push(s.name.clone());
                true
            }
        });
        if !p.is_mounted() {
            p.options = None;
        }
    }
    disk
}
