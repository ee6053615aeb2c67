//! Traces that nobody recorded: reads of an image that is made up, by a seed.
//!
//! Guarantees: the same options give the same trace, byte for byte; memory is bounded
//! by the files of the image (one for each 64 KiB or so). Reads are of at most 128 KiB,
//! as a kernel sends them; nobody served them, so their outcome and times are 0.

use std::f64::consts::TAU;
use std::io::Write;

use super::LabError;
use super::random::Random;
use crate::trace::{Read, SpanStart, TraceWriter, TracedImage};

/// What readers do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Whole files, few of them very often: the n-th most wanted is read in proportion
    /// to `1 / n^exponent`.
    Zipf {
        /// How uneven; 0 is even.
        exponent: f64,
    },
    /// All of the image in order, again and again.
    Scan,
    /// Both by turns: an eighth of the reads is of a scan.
    ScanAndZipf {
        /// That of the files.
        exponent: f64,
    },
    /// Containers start, one after the other: many small files here and there, then some
    /// large libraries in order, then nothing for a while. Most of what one reads the
    /// others read as well.
    Boot {
        /// How many containers start at least; they start again until there are enough
        /// reads.
        containers: u32,
    },
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What readers do.
    pub load: Load,
    /// How many reads.
    pub reads: u64,
    /// How long the uncompressed stream of the image is.
    pub stream_bytes: u64,
    /// Its spans are at least so long, as an index has them.
    pub span_bytes: u64,
    /// Another seed, another trace.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            load: Load::Zipf { exponent: 1.0 },
            reads: 100_000,
            stream_bytes: 1 << 30,
            span_bytes: 256 << 10,
            seed: 1,
        }
    }
}

/// A kernel asks for this much at most.
const READ_BYTES_MAX: u64 = 128 << 10;

/// Where a file is in the image.
#[derive(Clone, Copy, Debug)]
struct File {
    ino: u64,
    start: u64,
    len: u64,
}

/// Writes the image and the reads; answers how long that would have taken, in
/// microseconds, which is what to finish the trace with.
pub fn synthesize<W: Write>(
    writer: &mut TraceWriter<W>,
    options: &Options,
) -> Result<u64, LabError> {
    check(options)?;
    let mut random = Random::new(options.seed);
    let image = writer.image(&image(options, &mut random))?;
    let files = files(options.stream_bytes, &mut random);
    let mut reads = Reads {
        writer,
        image,
        left: options.reads,
        at_us: 0,
        stream_bytes: options.stream_bytes,
        scan: 0,
    };
    match options.load {
        Load::Zipf { exponent } => reads.zipf(&files, exponent, 0, &mut random)?,
        Load::Scan => while reads.scan_on()? {},
        Load::ScanAndZipf { exponent } => reads.zipf(&files, exponent, 1, &mut random)?,
        Load::Boot { containers } => reads.boot(&files, containers, &mut random)?,
    }
    Ok(reads.at_us)
}

fn check(options: &Options) -> Result<(), LabError> {
    let bad = |what, found, must| Err(LabError::Setting { what, found, must });
    match options {
        Options { stream_bytes, .. } if !(1 << 20..=1 << 40).contains(stream_bytes) => {
            bad("an image", *stream_bytes, "1M to 1T")
        }
        Options { span_bytes, .. } if !(32 << 10..=64 << 20).contains(span_bytes) => {
            bad("a span", *span_bytes, "32K to 64M")
        }
        _ => Ok(()),
    }
}

/// An image that shrank to about 40 %, with spans that end where a block of deflate
/// ended: some kibibytes behind the wanted length.
fn image(options: &Options, random: &mut Random) -> TracedImage {
    let (mut spans, mut stream, mut archive) = (Vec::new(), 0, 0);
    while stream < options.stream_bytes {
        spans.push(SpanStart { stream, archive });
        let len = options.span_bytes + random.below(24 << 10);
        stream += len;
        archive += len * (25 + random.below(30)) / 100;
    }
    TracedImage {
        digest: [0; 32],
        name: "synthetic".to_owned(),
        stream_bytes: options.stream_bytes,
        archive_bytes: archive.min(options.stream_bytes - 1),
        spans,
    }
}

/// Files one behind the other: most of a few kibibytes, some of megabytes. The
/// logarithm of their lengths is normal, as measured for file systems (Douceur and
/// Bolosky 1999): a median of 4 KiB and a mean of some 60.
fn files(stream_bytes: u64, random: &mut Random) -> Vec<File> {
    let (mut files, mut at) = (Vec::new(), 0);
    loop {
        // Box and Muller.
        let (one, other) = (1.0 - random.fraction(), random.fraction());
        let normal = (-2.0 * one.ln()).sqrt() * (TAU * other).cos();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 2^0 and 2^26"
        )]
        let len = (12.0 + 3.3 * normal).clamp(0.0, 26.0).exp2() as u64;
        // A header in front of each, and a whole number of records of 512 bytes.
        let start = at + 512;
        if start + len > stream_bytes {
            return files;
        }
        files.push(File {
            ino: files.len() as u64 + 2,
            start,
            len,
        });
        at = start + len.next_multiple_of(512);
    }
}

/// Writes reads until there are enough.
struct Reads<'a, W: Write> {
    writer: &'a mut TraceWriter<W>,
    image: u32,
    left: u64,
    at_us: u64,
    stream_bytes: u64,
    /// Where the scan is.
    scan: u64,
}

impl<W: Write> Reads<'_, W> {
    /// One read; whether there is one more to come.
    fn read(&mut self, file: File, offset: u64, len: u64) -> Result<bool, LabError> {
        if self.left == 0 {
            return Ok(false);
        }
        let read = Read {
            at_us: self.at_us,
            image: self.image,
            ino: file.ino,
            offset,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            stream: Some(file.start + offset),
            ..Read::default()
        };
        // Without room there will be none for the others.
        let has_room = self.writer.read(&read)?;
        self.at_us += 20 + len / 1000;
        self.left = if has_room { self.left - 1 } else { 0 };
        Ok(self.left > 0)
    }

    /// A whole file, in order.
    fn file(&mut self, file: File) -> Result<bool, LabError> {
        let mut offset = 0;
        loop {
            let len = READ_BYTES_MAX.min(file.len - offset);
            if !self.read(file, offset, len.max(1))? {
                return Ok(false);
            }
            offset += len;
            if offset >= file.len {
                return Ok(true);
            }
        }
    }

    /// The next read of a scan.
    fn scan_on(&mut self) -> Result<bool, LabError> {
        let all = File {
            ino: 1,
            start: 0,
            len: self.stream_bytes,
        };
        let len = READ_BYTES_MAX.min(self.stream_bytes - self.scan);
        let at = self.scan;
        self.scan = (at + len) % self.stream_bytes;
        self.read(all, at, len)
    }

    /// Whole files by their rank; after each, reads of a scan in proportion.
    fn zipf(
        &mut self,
        files: &[File],
        exponent: f64,
        scan_of_eight: u64,
        random: &mut Random,
    ) -> Result<(), LabError> {
        let ranked = Ranked::new(files.len(), exponent, random);
        let mut scanned = 0;
        loop {
            let before = self.left;
            let Some(file) = files.get(ranked.pick(random)) else {
                return Ok(());
            };
            if !self.file(*file)? {
                return Ok(());
            }
            scanned += (before - self.left) * scan_of_eight;
            while scanned >= 7 {
                scanned -= 7;
                if !self.scan_on()? {
                    return Ok(());
                }
            }
        }
    }

    /// Containers that start: see [`Load::Boot`].
    fn boot(
        &mut self,
        files: &[File],
        containers: u32,
        random: &mut Random,
    ) -> Result<(), LabError> {
        let (small, large): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.len < 256 << 10);
        let mut some = |of: &[&File], count: u64| -> Vec<File> {
            let len = of.len() as u64;
            let any = (0..count.min(len)).map(|_| random.below(len));
            any.filter_map(|i| of.get(usize::try_from(i).ok()?).map(|file| **file))
                .collect()
        };
        let (scripts, libraries) = (some(&small, 600), some(&large, 12));
        let programs: Vec<_> = (0..u64::from(containers.clamp(1, 1000)))
            .map(|_| (some(&small, 150), some(&large, 4)))
            .collect();
        if scripts.is_empty() {
            return Ok(());
        }
        loop {
            for (own_scripts, own_libraries) in &programs {
                let all = [&scripts, own_scripts, &libraries, own_libraries];
                for file in all.into_iter().flatten() {
                    if !self.file(*file)? {
                        return Ok(());
                    }
                }
                self.at_us += 2_000_000;
            }
        }
    }
}

/// Files in an order of their own, picked by a power of their rank.
struct Ranked {
    order: Vec<u32>,
    /// Sums of the weights up to each rank.
    sums: Vec<f64>,
}

impl Ranked {
    fn new(files: usize, exponent: f64, random: &mut Random) -> Self {
        let mut order: Vec<u32> = (0..u32::try_from(files).unwrap_or(u32::MAX)).collect();
        // Fisher and Yates.
        for at in (1..order.len()).rev() {
            let other = usize::try_from(random.below(at as u64 + 1)).unwrap_or(at);
            order.swap(at, other);
        }
        let weights = (1..=order.len() as u64).map(|rank| {
            #[expect(clippy::cast_precision_loss, reason = "a rank is below 2^32")]
            let rank = rank as f64;
            rank.powf(-exponent)
        });
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Ranked {
            sums: sums.collect(),
            order,
        }
    }

    fn pick(&self, random: &mut Random) -> usize {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let wanted = random.fraction() * all;
        let rank = self.sums.partition_point(|sum| *sum <= wanted);
        self.order
            .get(rank)
            .map_or(usize::MAX, |file| *file as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Origin, Trace};

    fn bytes(options: &Options) -> Vec<u8> {
        let mut writer = TraceWriter::new(Vec::new(), &Origin::default(), u64::MAX).unwrap();
        let duration_us = synthesize(&mut writer, options).unwrap();
        writer.finish(duration_us).unwrap().0
    }

    fn made(load: Load) -> Trace {
        let options = Options {
            load,
            reads: 5000,
            stream_bytes: 64 << 20,
            ..Options::default()
        };
        let made = bytes(&options);
        assert!(made == bytes(&options), "the same again");
        assert!(made != bytes(&Options { seed: 2, ..options }));
        Trace::from_reader(&made[..], false).unwrap()
    }

    const LOADS: [Load; 4] = [
        Load::Zipf { exponent: 1.1 },
        Load::Scan,
        Load::ScanAndZipf { exponent: 0.9 },
        Load::Boot { containers: 3 },
    ];

    #[test]
    fn a_trace_has_what_was_asked_for() {
        for load in LOADS {
            let trace = made(load);
            assert_eq!(trace.totals().records, 5000, "{load:?}");
            let image = &trace.images()[0];
            assert_eq!(image.stream_bytes, 64 << 20);
            let spans = image.spans.windows(2);
            let lens: Vec<u64> = spans.map(|s| s[1].stream - s[0].stream).collect();
            assert!(lens.iter().all(|len| (256 << 10..281 << 10).contains(len)));
            assert!(lens.windows(2).any(|pair| pair[0] != pair[1]), "uneven");
            let reads: Vec<Read> = trace.records().collect();
            assert!(reads.iter().all(|read| (1..=128 << 10).contains(&read.len)));
            assert!(reads.is_sorted_by_key(|read| read.at_us));
        }
    }

    /// How many distinct files there are among the first so many reads.
    fn files_read(trace: &Trace) -> usize {
        let all: std::collections::BTreeSet<u64> = trace.records().map(|read| read.ino).collect();
        all.len()
    }

    #[test]
    fn loads_are_what_they_are_called() {
        let even = files_read(&made(Load::Zipf { exponent: 0.0 }));
        let uneven = files_read(&made(Load::Zipf { exponent: 1.5 }));
        assert!(uneven * 2 < even, "{uneven} {even}");
        let scan = made(Load::Scan);
        let reads: Vec<Read> = scan.records().collect();
        let goes_on = |pair: &[Read]| pair[0].offset + u64::from(pair[0].len) == pair[1].offset;
        assert!(reads[..512].windows(2).all(goes_on));
        assert_eq!(reads[512].offset, 0, "again");
        let both = made(Load::ScanAndZipf { exponent: 1.0 });
        let scanned = both.records().filter(|read| read.ino == 1).count();
        assert!((500..750).contains(&scanned), "{scanned}");
        let boot: Vec<Read> = made(Load::Boot { containers: 3 }).records().collect();
        let pauses = boot
            .windows(2)
            .filter(|p| p[1].at_us - p[0].at_us > 1_000_000);
        assert!(pauses.count() >= 3);
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (stream_bytes, span_bytes) in [(1000, 256 << 10), (1 << 30, 1000)] {
            let mut writer = TraceWriter::new(Vec::new(), &Origin::default(), u64::MAX).unwrap();
            let options = Options {
                stream_bytes,
                span_bytes,
                ..Options::default()
            };
            let result = synthesize(&mut writer, &options);
            assert!(matches!(result, Err(LabError::Setting { .. })));
        }
    }
}
