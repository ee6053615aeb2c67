//! What may be typed of `distrofs lab`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::config::{ByteSize, ConfigError};
use crate::lab::policy::Rule;
use crate::lab::synth::Load;

/// Containers that `boot` starts.
const CONTAINERS: u32 = 20;

/// `distrofs lab`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Lab {
    /// Record which reads reach the daemon of a mount.
    Record(LabRecord),
    /// Make a trace up, for when there is none.
    Synth(LabSynth),
    /// Show what a trace holds: how fast reads were, where, and of which files.
    Show(LabShow),
    /// Replay a trace with other caches, and show what each would have done.
    Replay(LabReplay),
    /// Show the miss ratio of every cache size at once.
    Mrc(LabMrc),
    /// Say which cache, block and span would have served a trace best.
    Advise(LabAdvise),
    /// Draw a document of tables and charts that a script wrote as JSON.
    Plot(LabPlot),
}

/// `distrofs lab record`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabRecord {
    /// Where archives are mounted, or files there; several share one trace
    #[arg(required = true, value_name = "MOUNTPOINT|PATH")]
    pub(in crate::cli) mounts: Vec<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "TRACE")]
    pub(in crate::cli) out: PathBuf,
    /// How long: 60s, 5m, 1h [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) limit: Option<Duration>,
    /// The largest file; records that do not fit are counted
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    pub(in crate::cli) max: ByteSize,
    /// Print what was recorded as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// A trace that is read.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Traced {
    /// What `record`, `synth` or `run --trace` wrote
    pub(in crate::cli) trace: PathBuf,
    /// Take what is there of a trace that was cut off
    #[arg(long)]
    pub(in crate::cli) partial: bool,
}

/// Where results go.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Shown {
    /// Print JSON instead of tables
    #[arg(long, conflicts_with = "csv")]
    pub(in crate::cli) json: bool,
    /// Print the tables as CSV
    #[arg(long)]
    pub(in crate::cli) csv: bool,
    /// Write tables and charts into one HTML file that needs nothing else
    #[arg(long, value_name = "FILE.html")]
    pub(in crate::cli) report: Option<PathBuf>,
    /// Write each chart into a file of its own, DIRECTORY/NAME.svg and NAME.png
    #[arg(long, value_name = "DIRECTORY")]
    pub(in crate::cli) plots: Option<PathBuf>,
}

/// `distrofs lab synth`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabSynth {
    /// What is read: `zipf` few files often, `scan` everything in order, `scan+zipf`
    /// both, `boot` what starts of containers read
    #[arg(value_name = "zipf|scan|scan+zipf|boot", value_parser = ["zipf", "scan", "scan+zipf", "boot"])]
    pub(in crate::cli) kind: String,
    /// The file to write
    #[arg(short, long, value_name = "TRACE")]
    pub(in crate::cli) out: PathBuf,
    /// How many reads
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(in crate::cli) requests: u64,
    /// How much the image holds
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    pub(in crate::cli) image: ByteSize,
    /// How long its spans are, about
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = parse_size)]
    pub(in crate::cli) span: ByteSize,
    /// The exponent of zipf: 0 all files alike, above 1 hardly any but the first
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    pub(in crate::cli) exponent: f64,
    /// The same seed makes the same trace
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
}

impl LabSynth {
    /// What is read.
    pub(in crate::cli) fn load(&self) -> Result<Load, String> {
        let exponent = self.exponent;
        if !(0.0..=4.0).contains(&exponent) {
            return Err("--exponent: give 0 to 4".to_owned());
        }
        Ok(match self.kind.as_str() {
            "zipf" => Load::Zipf { exponent },
            "scan" => Load::Scan,
            "scan+zipf" => Load::ScanAndZipf { exponent },
            _ => Load::Boot {
                containers: CONTAINERS,
            },
        })
    }
}

/// `distrofs lab show`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabShow {
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    #[command(flatten)]
    pub(in crate::cli) shown: Shown,
}

/// `distrofs lab replay`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabReplay {
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    /// How much the cache may hold, one or several
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = parse_size,
          default_value = "4M,8M,16M,24M,32M,64M")]
    pub(in crate::cli) cache: Vec<ByteSize>,
    /// What is cached at a time: multiples of 16K, which is what serves
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = parse_any_size,
          default_value = "16K")]
    pub(in crate::cli) block: Vec<ByteSize>,
    /// How far checkpoints are apart [default: as recorded]
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = parse_any_size)]
    pub(in crate::cli) span: Vec<ByteSize>,
    /// What is thrown out: lru (which serves), fifo, sieve, s3fifo, arc, and opt, which
    /// knows the future
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "lru"
    )]
    pub(in crate::cli) policy: Vec<Rule>,
    /// Decode ahead of readers whose next reads can be told, as serving does
    #[arg(long)]
    pub(in crate::cli) ahead: bool,
    /// Really decode, and tell how long that takes
    #[arg(long, requires = "archive")]
    pub(in crate::cli) real: bool,
    /// The archive of the trace; one for each of its images, in their order
    #[arg(long, value_name = "ARCHIVE")]
    pub(in crate::cli) archive: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) shown: Shown,
}

/// `distrofs lab mrc`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabMrc {
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    /// The part of all blocks that is looked at
    #[arg(long, value_name = "X", default_value_t = 0.01)]
    pub(in crate::cli) rate: f64,
    /// Blocks that are looked at, at most; the rate falls as more come
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub(in crate::cli) samples: u32,
    /// Only the sampled curves: the exact one takes longer, and memory for each block
    #[arg(long)]
    pub(in crate::cli) sampled: bool,
    #[command(flatten)]
    pub(in crate::cli) shown: Shown,
}

/// `distrofs lab advise`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabAdvise {
    #[command(flatten)]
    pub(in crate::cli) traced: Traced,
    /// Memory that serving has altogether
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    pub(in crate::cli) memory: ByteSize,
    #[command(flatten)]
    pub(in crate::cli) shown: Shown,
}

/// `distrofs lab plot`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LabPlot {
    /// The document; `-` is standard input
    pub(in crate::cli) file: PathBuf,
    /// What to write: .svg and .png hold the first chart, or the one that --chart names
    #[arg(short, long, value_name = "FILE.svg|png|html")]
    pub(in crate::cli) out: PathBuf,
    /// The name of a chart
    #[arg(long)]
    pub(in crate::cli) chart: Option<String>,
}

/// A time in seconds, or with `ms`, `s`, `m` or `h`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("give a time like 500ms, 60s, 5m or 1h".to_owned()),
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * unit);
    seconds
        .filter(|seconds| (0.001..=30.0 * 86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a time like 500ms, 60s, 5m or 1h, 30 days at most".to_owned())
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|e: ConfigError| e.to_string())?;
    match size.0 >= 64 << 10 {
        true => Ok(size),
        false => Err("give at least 64K".to_owned()),
    }
}

fn parse_any_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|e: ConfigError| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let time = |text| parse_time(text).map(|time| time.as_millis()).ok();
        assert_eq!(time("500ms"), Some(500));
        assert_eq!(time("60s"), Some(60_000));
        assert_eq!(time("1.5"), Some(1500));
        assert_eq!(time("2m"), Some(120_000));
        assert_eq!(time("1h"), Some(3_600_000));
        for bad in ["", "s", "-1s", "1d", "nan", "inf", "9999h", "0"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
