//! Tables on images and loop devices: what sfdisk, parted and sgdisk read back is what was planned, field by field.

use std::path::{Path, PathBuf};

use ka_desc::language::{LEGACY_BOOT_BIT, Table};
use ka_desc::layout::Plan;
use ka_desc::write::Options;
use lab::{Lab, applied, can_run, digest, output, run, sfdisk};
use serde_json::Value;

mod lab;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const TABLE_ONLY: Options =
    Options { removable: false, deactivate: false, table_only: true, image_sector_bytes: 512 };

/// Reads the table back in three ways.
fn assert_read_back(plan: &Plan, path: &Path) {
    let name = path.to_str().unwrap();
    let dump: Value = serde_json::from_str(&run("sfdisk", &["--json", name])).unwrap();
    let table = &dump["partitiontable"];
    assert_eq!(table["label"], if plan.table == Table::Gpt { "gpt" } else { "dos" });
    assert_eq!(table["unit"], "sectors");
    assert!(table["sectorsize"] == plan.geometry.sector_bytes, "{table}");
    if let Some(id) = plan.id {
        assert_eq!(table["id"].as_str().unwrap(), id.to_string());
    }
    let none = Vec::new();
    let partitions = table["partitions"].as_array().unwrap_or(&none);
    assert_eq!(partitions.len(), plan.partitions.len());
    for p in &plan.partitions {
        let node = [format!("{name}{}", p.number), format!("{name}p{}", p.number)];
        let read = partitions
            .iter()
            .find(|r| node.iter().any(|n| r["node"] == **n))
            .unwrap_or_else(|| panic!("{node:?}"));
        assert_eq!((read["start"].as_u64(), read["size"].as_u64()), (Some(p.start), Some(p.sectors)));
        assert_eq!(read["type"].as_str().unwrap(), p.kind);
        assert_eq!(read["name"].as_str().unwrap_or(""), p.name.as_deref().unwrap_or(""));
        if let Some(guid) = &p.partuuid {
            assert_eq!(read["uuid"].as_str().unwrap(), guid);
        }
        if plan.table == Table::Mbr {
            assert_eq!(read["bootable"].as_bool().unwrap_or(false), p.attributes >> LEGACY_BOOT_BIT & 1 == 1);
        } else {
            assert_eq!(read["attrs"].as_str().unwrap_or(""), words(p.attributes));
        }
    }
    parted(plan, name);
    if plan.table == Table::Gpt {
        let said = run("sgdisk", &["-v", name]);
        assert!(said.contains("No problems found"), "{said}");
    }
}

fn words(attributes: u64) -> String {
    let mut words: Vec<String> = ["RequiredPartition", "NoBlockIOProtocol", "LegacyBIOSBootable"]
        .iter()
        .enumerate()
        .filter(|(bit, _)| attributes >> bit & 1 == 1)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    let bits: Vec<String> =
        (48..64).filter(|bit| attributes >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
    if !bits.is_empty() {
        words.push(format!("GUID:{}", bits.join(",")));
    }
    words.join(" ")
}

/// parted refuses to say anything of a table that reaches farther than it believes an MBR to.
fn parted(plan: &Plan, name: &str) {
    let said = run("parted", &["--script", "--machine", name, "unit", "s", "print"]);
    let mut lines = said.lines().skip(1);
    let disk: Vec<&str> = lines.next().unwrap().split(':').collect();
    let total = plan.geometry.disk_bytes / u64::from(plan.geometry.sector_bytes);
    assert_eq!(disk[1], format!("{total}s"));
    assert_eq!(disk[3], plan.geometry.sector_bytes.to_string());
    assert_eq!(disk[5], if plan.table == Table::Gpt { "gpt" } else { "msdos" });
    let mut read: Vec<[String; 4]> = lines
        .map(|line| {
            let fields: Vec<&str> = line.trim_end_matches(';').split(':').collect();
            [0, 1, 2, 3].map(|at| fields[at].to_owned())
        })
        .collect();
    let of = |p: &ka_desc::layout::Placed| {
        [
            p.number.to_string(),
            format!("{}s", p.start),
            format!("{}s", p.end() - 1),
            format!("{}s", p.sectors),
        ]
    };
    let mut planned: Vec<[String; 4]> = plan.partitions.iter().map(of).collect();
    read.sort();
    planned.sort();
    assert_eq!(read, planned);
}

const TOOLS: [&str; 5] = ["sfdisk", "parted", "sgdisk", "wipefs", "blkid"];

/// The descs, the disks they are for, and their sectors.
fn cases() -> Vec<(&'static str, String, u64, u32)> {
    let golden_btrfs = "bios_boot 1\nswap 128\nlinux fill\n";
    let case = |name, text: &str, bytes, sector| (name, text.to_owned(), bytes, sector);
    vec![
        case(
            "the manual's",
            "linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n",
            20 * GIB,
            512,
        ),
        case("one that fills", "linux fill\n", GIB, 512),
        case("four primaries", "linux 100 bootable\nswap 50\ntype0c 100\ntype8e fill\n", GIB, 512),
        case(
            "many logicals",
            "table mbr id 0x1a2b3c4d\nextended 900\nlogical linux 1000001B\nlogical linux 100\nlogical swap 10\n\
             logical typeda 33\nlogical linux fill\nlogical linux fill\nlinux fill\n",
            GIB,
            512,
        ),
        case("golden bios", "swap 128\nlinux 2540\nextended fill\nlogical linux fill\n", 3 * GIB, 512),
        case("golden uefi", "esp 64\nlinux 2478\nswap 128\nlinux fill\n", 3 * GIB, 512),
        case("golden btrfs", golden_btrfs, 3 * GIB, 512),
        case("a tiny GPT", "table gpt\nlinux fill\n", 3 * MIB, 512),
        case("a tiny MBR", "linux 1\n", 2 * MIB, 512),
        case("three tebibytes", "esp 512\nlinux fill\nlinux fill\n", 3 << 40, 512),
        case("an MBR's end", "linux 1.5T\nextended fill\nlogical linux fill\n", 2 << 40, 512),
        case("an MBR on more than it reaches", "linux 1.5T\nlinux fill\n", 3 << 40, 512),
        case("4096: GPT", "esp 100\nlinux 1000001B\nlinux fill\n", GIB, 4096),
        case("4096: MBR", "linux 100\nextended fill\nlogical swap 10\nlogical linux fill\n", GIB, 4096),
        case("4096: 128 partitions", &("table gpt\n".to_owned() + &"linux 1\n".repeat(128)), GIB, 4096),
        case("128 partitions", &("table gpt\n".to_owned() + &"linux fill\n".repeat(128)), GIB, 512),
        case(
            "all that a GPT has",
            "table gpt id 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f\n\
             esp 100 name \"EFI, und: é\" attributes 0,1,63 number 7\n\
             linux 25% min 10 partuuid 8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e50 bootable\n\
             msr 16\ndata 30 attributes 60,63\nrecovery 20 attributes 0 number 128\n\
             type4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 fill\n",
            GIB,
            512,
        ),
        case("the last sector", "table gpt\nlinux 1071644672B\n", GIB - MIB + 33 * 512, 512),
    ]
}

#[test]
fn what_is_read_back_is_what_was_planned() {
    if !can_run("what_is_read_back_is_what_was_planned", false, &TOOLS) {
        return;
    }
    let loops = can_run("what_is_read_back_is_what_was_planned (4096)", true, &["losetup"]);
    for (name, text, bytes, sector) in cases() {
        let mut lab = Lab::new();
        let image = lab.image("disk.img", bytes);
        let path: PathBuf = match sector {
            512 => image,
            _ if loops => lab.attach(&image, &["--sector-size", "4096"]),
            _ => continue,
        };
        let plan = applied(&text, &path, &TABLE_ONLY).plan;
        println!("{name}");
        assert_eq!(plan.geometry.sector_bytes, sector);
        assert_read_back(&plan, &path);
        assert_eq!(applied(&text, &path, &TABLE_ONLY).plan, plan, "{name}: again, over itself");
    }
}

/// Whatever was there, none of it shines through.
#[test]
fn a_new_table_takes_the_place_of_any_old_one() {
    if !can_run("a_new_table_takes_the_place_of_any_old_one", false, &TOOLS) {
        return;
    }
    let lab = Lab::new();
    let image = lab.image("disk.img", GIB);
    for text in [
        "table gpt\nlinux fill\nlinux 10\n",
        "linux 10\nextended fill\nlogical linux fill\n",
        "table gpt\nswap fill\n",
        "swap fill\n",
    ] {
        assert_read_back(&applied(text, &image, &TABLE_ONLY).plan, &image);
    }
    run("wipefs", &["--all", "--quiet", image.to_str().unwrap()]);
    let ext4 = output("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    assert!(ext4.status.success());
    assert_read_back(&applied("linux fill\n", &image, &TABLE_ONLY).plan, &image);
}

/// A disk shared with Windows: what is kept keeps its place, its GUID, its name, its attributes, and every byte.
#[test]
fn what_is_kept_is_kept_in_gpts_and_mbrs() {
    if !can_run("what_is_kept_is_kept_in_gpts_and_mbrs", false, &TOOLS) {
        return;
    }
    let lab = Lab::new();
    // Windows of old began its first partition at sector 63, and put itself into the boot sector.
    let image = lab.image("mbr.img", 512 * MIB);
    sfdisk(
        &image,
        "label: dos\nlabel-id: 0xcafebabe\nstart=63, size=200000, type=7, bootable\nstart=204800, size=2048, type=27\nstart=206848, size=409600, type=83\n",
    );
    fill_with_noise(&image, 63 * 512, 200_000 * 512);
    fill_with_noise(&image, 2, 400);
    let (boot, windows) = (digest(&image, 0, 440), digest(&image, 63 * 512, 200_000 * 512));
    let text = "table mbr\nkeep data any at 63B number 1\n";
    assert!(lab::prepared(text, &image, &TABLE_ONLY).is_err(), "it is at sector 63");
    let text = "table mbr\nkeep data 102400000B at 32256B bootable\nkeep recovery 1\nlinux fill\nswap 100\n";
    let plan = applied(text, &image, &TABLE_ONLY).plan;
    assert_read_back(&plan, &image);
    assert_eq!(plan.id.unwrap().to_string(), "0xcafebabe", "by which Windows knows the disk");
    assert_eq!((digest(&image, 0, 440), digest(&image, 63 * 512, 200_000 * 512)), (boot, windows));

    let image = lab.image("gpt.img", 512 * MIB);
    sfdisk(
        &image,
        "label: gpt\nfirst-lba: 34\nstart=34, size=2000, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, name=\"Microsoft reserved\"\n\
         start=2048, size=204800, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name=\"Basic data\", attrs=\"GUID:60,63\"\n\
         start=206848, size=409600, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"old\"\n",
    );
    let before = lab::prepared("table gpt\nkeep msr any\n", &image, &TABLE_ONLY).unwrap().found.unwrap();
    let text = "table gpt\nkeep msr any\nkeep data 100 attributes 60\nlinux fill\nreuse linux any number 3 ext4\nswap 10\n";
    // `old` begins right behind Windows, so there is no room between them.
    assert!(lab::prepared(text, &image, &TABLE_ONLY).is_err());
    let plan = applied(&text.replace("linux fill\n", ""), &image, &TABLE_ONLY).plan;
    assert_read_back(&plan, &image);
    for number in 1..=3 {
        let (is, was) =
            (plan.partitions.iter().find(|p| p.number == number).unwrap(), before.partition(number).unwrap());
        assert_eq!((is.start, is.sectors, is.attributes), (was.start, was.sectors, was.attributes));
        assert_eq!((&is.name, &is.partuuid, &is.kind), (&was.name, &was.partuuid, &was.kind));
    }
    assert_eq!(plan.id, before.id);
}

fn fill_with_noise(path: &Path, from: u64, bytes: usize) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&from.to_le_bytes()).finalize_xof().fill(&mut noise);
    file.write_all_at(&noise, from).unwrap();
}
