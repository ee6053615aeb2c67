//! A report in a real browser: every chart is seen, no texts overlap, light and
//! dark differ, and nothing is asked of any network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use distrofs::report::{self, Document};

/// What the copy of the report that is measured does at its end: it writes what
/// overlaps, and what has no size, where the dump shows it.
const MEASURE: &str = r#"<script>
const wrong = [];
let charts = 0, texts = 0;
for (const svg of document.querySelectorAll('figure > svg')) {
  charts++;
  const whole = svg.getBoundingClientRect();
  if (!(whole.width > 100 && whole.height > 100)) wrong.push('no size: ' + svg.getAttribute('aria-label'));
  const seen = [];
  for (const text of svg.querySelectorAll('text')) {
    texts++;
    const box = text.getBoundingClientRect();
    if (!(box.width > 0 && box.height > 0)) wrong.push('no text: ' + text.textContent);
    if (box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 || box.bottom > whole.bottom + 1) wrong.push('outside: ' + text.textContent);
    for (const [other, name] of seen) {
      const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const high = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (wide > 1 && high > 3) wrong.push('overlap: ' + name + ' / ' + text.textContent);
    }
    seen.push([box, text.textContent]);
  }
}
const asked = performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'));
document.body.innerHTML = '';
const pre = document.createElement('pre');
pre.textContent = 'MEASURED ' + JSON.stringify({ charts, texts, wrong, asked }) + ' END';
document.body.append(pre);
</script>"#;

fn example() -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/report.json");
    report::from_json(&fs::read_to_string(path).unwrap()).unwrap()
}

struct Browser {
    dir: tempfile::TempDir,
}

impl Browser {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn page(&self, name: &str, html: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, html).unwrap();
        path
    }

    /// Runs chromium on a page and gives back what it printed. Its profile and all
    /// that it writes lie in the directory of this browser, which is removed.
    fn run(&self, arguments: &[&str], page: &Path) -> String {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "60", "/usr/bin/chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ])
            .args(["--disable-crash-reporter", "--hide-scrollbars"])
            .arg(format!(
                "--user-data-dir={}",
                self.dir.path().join("profile").display()
            ))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("XDG_CACHE_HOME", self.dir.path())
            .stdin(Stdio::null());
        let out = command.output().unwrap();
        assert!(
            out.status.success(),
            "chromium ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    fn screenshot(&self, page: &Path, name: &str, arguments: &[&str]) -> tiny_skia::Pixmap {
        let picture = self.dir.path().join(name);
        let target = format!("--screenshot={}", picture.display());
        let mut all = vec![&*target, "--window-size=1000,3400"];
        all.extend(arguments);
        self.run(&all, page);
        tiny_skia::Pixmap::load_png(picture).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Children of the browser may still be writing.
        for _ in 0..50 {
            if fs::remove_dir_all(self.dir.path()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn every_chart_is_seen_and_no_texts_overlap() {
    let browser = Browser::new();
    let html = report::html::document(&example());
    // The report forbids scripts, and the copy has one.
    let begin = html.find("<meta http-equiv").unwrap();
    let end = begin + html[begin..].find("<title>").unwrap();
    let copy = format!("{}{}", &html[..begin], &html[end..]);
    let copy = copy.replace("</body>", &format!("{MEASURE}</body>"));
    let dump = browser.run(&["--dump-dom"], &browser.page("measured.html", &copy));
    let begin = dump.find("MEASURED ").expect("the script ran") + "MEASURED ".len();
    let text = &dump[begin..begin + dump[begin..].find(" END").unwrap()];
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let measured: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(measured["charts"], 5);
    assert!(measured["texts"].as_u64().unwrap() > 60, "{measured}");
    assert_eq!(measured["wrong"], serde_json::json!([]));
    assert_eq!(measured["asked"], serde_json::json!([]));
}

#[test]
fn light_and_dark_are_seen_and_differ() {
    let browser = Browser::new();
    let page = browser.page("report.html", &report::html::document(&example()));
    let light = browser.screenshot(&page, "light.png", &[]);
    let dark = browser.screenshot(
        &page,
        "dark.png",
        &[
            "--force-dark-mode",
            "--blink-settings=preferredColorScheme=0",
        ],
    );
    if let Some(keep) = std::env::var_os("REPORT_SCREENSHOTS") {
        light.save_png(Path::new(&keep).join("light.png")).unwrap();
        dark.save_png(Path::new(&keep).join("dark.png")).unwrap();
    }
    let bright = |map: &tiny_skia::Pixmap| {
        let all = map
            .pixels()
            .iter()
            .filter(|p| p.red() > 128 && p.green() > 128)
            .count();
        all as f64 / map.pixels().len() as f64
    };
    assert!((0.5..0.99).contains(&bright(&light)), "{}", bright(&light));
    assert!((0.005..0.5).contains(&bright(&dark)), "{}", bright(&dark));
}

#[test]
fn nothing_points_outside_of_the_file() {
    let html = report::html::document(&example());
    let html = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in [
        "http:", "https:", "//cdn", "@import", "url(", "<script", "<link",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
}
