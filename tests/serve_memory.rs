//! One worker within the memory of a storage container: many images, many views,
//! many uploads at once.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::archive::debian_tgz;
use common::limited::{Group, MIB, WORKER, megabytes};
use common::program::eventually;
use common::service::Service;

const S: u32 = 30_000;
const IMAGES: usize = 20;
const VIEWS: u32 = 100;
const READERS: u32 = 8;

/// Serving an image nobody asks for takes no more than this for all of them.
const IDLE_BYTES: u64 = 16 * MIB;

/// Idle is who was not asked for a minute.
const IDLE_LIMIT: Duration = Duration::from_secs(150);
const UPLOADS_LIMIT: Duration = Duration::from_secs(150);

/// A service whose storage container has 64 MiB. It ends before its group does.
fn service() -> (Group, Service) {
    let group = Group::new(64 * MIB);
    let mut service = Service::new(&[S]);
    service.set(&format!("cgroups=['{}']", group.path().display()));
    (group, service)
}

/// Another archive of the same content, and one file more.
fn variant(service: &Service, number: usize) -> PathBuf {
    let tree = service.path().join(format!("variant-{number}.tree"));
    fs::create_dir(&tree).expect("make a directory");
    fs::write(tree.join("variant"), number.to_string()).expect("write a file");
    let own = service.path().join("own.tar");
    let mut tar = Command::new("tar");
    tar.args([
        "-C",
        &tree.to_string_lossy(),
        "-cf",
        &own.to_string_lossy(),
        "variant",
    ]);
    common::program::run(&mut tar).ok();
    let entry = fs::read(&own).expect("read an archive");
    // Without its end: the image follows.
    let archive = service.path().join(format!("variant-{number}.tgz"));
    let file = fs::File::create(&archive).expect("make an archive");
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &entry[..1024]).expect("write an archive");
    let mut file = gzip.finish().expect("write an archive");
    let mut image = fs::File::open(debian_tgz()).expect("open the image");
    std::io::copy(&mut image, &mut file).expect("write an archive");
    fs::remove_dir_all(tree).expect("remove a directory");
    archive
}

fn resident_bytes(service: &Service) -> u64 {
    let worker = service.worker(S).expect("a worker").as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("read its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a size") * 1024
}

#[test]
fn twenty_images_and_a_hundred_views_are_read_within_64_mib() {
    let (group, mut service) = service();
    for number in 0..IMAGES {
        let archive = variant(&service, number);
        service.upload(S, &archive, &format!("image-{number}.tgz"));
        fs::remove_file(archive).expect("remove an archive");
    }
    service.start();
    let views: Vec<u32> = (0..VIEWS).map(|number| 30_100 + number).collect();
    let attach = views.iter().zip((0..IMAGES).cycle()).map(|(uid, image)| {
        let at = service.path().join("at").join(uid.to_string());
        common::view::dir(&at, 0o755);
        format!(
            "'{}' attach {uid} --image {S}/image-{image} --at '{}' --run '{}'\n",
            common::program::binary().display(),
            at.display(),
            service.run_dir().display()
        )
    });
    // A view of each image is read as a whole, the others are walked.
    let read = "find \"$1\" -type f -exec cat {} + | wc -c > \"$1.read\"";
    let script = format!(
        "mount --make-rprivate /\n{}cd '{}/at'\n\
         seq 30100 {} | xargs -P {READERS} -I@ sh -euc '{read}' sh @\n\
         seq {} {} | xargs -P {READERS} -I@ sh -euc 'find @ | wc -l > @.walked'\n",
        attach.collect::<String>(),
        service.path().display(),
        30_100 + IMAGES - 1,
        30_100 + IMAGES,
        30_100 + VIEWS - 1,
    );
    let mut reading = Command::new("unshare");
    reading
        .args(["--mount", "sh", "-euc", &script])
        .stdin(Stdio::null());
    let status = reading.status().expect("read everything");
    assert!(status.success(), "{status}: {}", service.log());
    let number = |uid: u32, what: &str| {
        let file = service.path().join(format!("at/{uid}.{what}"));
        let text = fs::read_to_string(&file).expect("read what was counted");
        text.trim().parse::<u64>().expect("a number")
    };
    let read = number(30_100, "read");
    assert!(read > 80 * MIB, "only {read} bytes were read");
    for uid in (30_101..).take(IMAGES - 1) {
        // Numbers of two digits make the one file that is another one longer.
        assert!(number(uid, "read").abs_diff(read) <= 1, "{uid}");
    }
    for uid in (30_100..30_100 + VIEWS).skip(IMAGES) {
        assert!(number(uid, "walked") > 5_000, "{uid}");
    }
    println!("{}", group.report());
    assert_eq!(
        group.kills() + group.kills_in(WORKER),
        0,
        "{}",
        service.log()
    );
    assert_eq!(service.status(S)["restarts"], 0, "{}", service.log());
    let is_idle = eventually(IDLE_LIMIT, || resident_bytes(&service) <= IDLE_BYTES);
    let resident = megabytes(resident_bytes(&service));
    assert!(
        is_idle,
        "{resident:.1} MiB resident although nobody asks for anything"
    );
    println!("{resident:.1} MiB resident when nobody asks for anything");
    service.stop();
}

#[test]
fn fifty_uploads_at_once_are_each_served_or_refused() {
    let (group, mut service) = service();
    service.start();
    let bad: [(&str, Vec<u8>, &str); 4] = [
        ("garbage", vec![0x5a; 300_000], "refused: "),
        (
            "cut",
            fs::read(debian_tgz()).expect("read the image")[..1_000_000].to_vec(),
            "incomplete: ",
        ),
        ("text", b"no archive at all\n".repeat(1000), "refused: "),
        (
            "xz",
            [b"\xfd7zXZ\0".as_slice(), &[7; 5000]].concat(),
            "refused: ",
        ),
    ];
    for (name, content, _) in &bad {
        let source = service.path().join("bad");
        fs::write(&source, content).expect("write a file");
        service.upload(S, &source, &format!("{name}.tgz"));
    }
    let tree = service.path().join("tree");
    common::view::file(&tree.join("etc/conf"), 0o644, &vec![b'x'; 200_000]);
    let images: Vec<usize> = (0..50 - bad.len()).collect();
    for number in &images {
        fs::write(tree.join("number"), number.to_string()).expect("write a file");
        let archive = service.path().join("small.tgz");
        common::archive::tar(&tree, &archive, &["-z"]);
        service.upload(S, &archive, &format!("small-{number}.tgz"));
    }
    for number in &images {
        let file = service.distros(S).join(format!("small-{number}/number"));
        let is_right = || fs::read_to_string(&file).is_ok_and(|text| text == number.to_string());
        assert!(
            eventually(UPLOADS_LIMIT, is_right),
            "{number}: {}",
            service.log()
        );
    }
    for (name, _, word) in &bad {
        let file = service.distros(S).join(format!("{name}.status"));
        let said = || fs::read_to_string(&file).unwrap_or_default();
        assert!(
            eventually(UPLOADS_LIMIT, || said().contains(word)),
            "{name}: {}",
            said()
        );
        assert!(
            !Path::new(&service.distros(S).join(name)).exists(),
            "{name}"
        );
    }
    assert_eq!(
        group.kills() + group.kills_in(WORKER),
        0,
        "{}",
        service.log()
    );
    assert_eq!(service.status(S)["restarts"], 0, "{}", service.log());
    service.stop();
}
