//! The page in a real browser: headless Chromium.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{example, page};
use crate::result::RunResult;

/// Runs at the end of the page, as a reader would look and touch.
const PROBE: &str = r#"<script>
const canvases = [...document.querySelectorAll(".canvas")];
const told = canvases.map((canvas) => {
  const drawn = [...canvas.querySelectorAll("svg path")].map((path) => path.getBBox());
  const box = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2, clientY: box.top + 10 }));
  const reading = canvas.querySelector(".reading");
  return {
    title: canvas.closest("figure").querySelector("h3").textContent,
    paths: drawn.length,
    widest: Math.max(...drawn.map((box) => box.width)),
    highest: Math.max(...drawn.map((box) => box.height)),
    shown: box.width > 200 && box.height > 100,
    reading: reading.hidden ? "" : reading.textContent,
  };
});
const looks = { plots: told, overflow: document.documentElement.scrollWidth - innerWidth, width: innerWidth,
  background: getComputedStyle(document.body).backgroundColor };
document.body.append(Object.assign(document.createElement("output"), { textContent: "looks:" + JSON.stringify(looks) + ":end" }));
</script></body>"#;

/// What the browser made of a page.
struct Seen {
    looks: serde_json::Value,
    console: Vec<String>,
}

fn open(folder: &Path, page: &str, width: u32, dark: bool) -> Seen {
    let file = folder.join("page.html");
    std::fs::write(&file, page).unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--enable-logging=stderr", "--log-level=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size={width},900"))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .expect("chromium is needed: on Debian, apt-get install chromium");
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let looks = dom.split("<output>looks:").nth(1).and_then(|rest| rest.split(":end</output>").next());
    let looks = looks.map(|text| text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"));
    Seen {
        looks: looks.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default(),
        console: log.lines().filter(|line| line.contains(":CONSOLE:")).map(str::to_owned).collect(),
    }
}

fn probed(result: &RunResult) -> String {
    let page = page::page(result);
    assert_eq!(page.matches("</body>").count(), 1);
    page.replace("</body>", PROBE)
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn on_every_screen_all_plots_have_data_and_nothing_complains() {
    let (_guard, folder) = folder();
    let page = probed(&example::result());
    let mut backgrounds = Vec::new();
    for (width, dark) in [(1280, false), (1280, true), (500, false)] {
        let seen = open(&folder, &page, width, dark);
        assert_eq!(seen.console, Vec::<String>::new());
        let plots = seen.looks["plots"].as_array().unwrap();
        let titles: Vec<_> = plots.iter().map(|plot| plot["title"].as_str().unwrap()).collect();
        let expected = [
            "Requests a second",
            "Latency",
            "How many took no longer",
            "p99 of each tenant",
            "What each tenant got of what it asked for",
            "Busy processors",
        ];
        assert_eq!(titles, expected);
        for plot in plots {
            let number = |key: &str| plot[key].as_f64().unwrap();
            assert!(number("paths") >= 1.0 && number("widest") > 300.0 && number("highest") > 20.0, "{plot}");
            assert!(plot["shown"].as_bool().unwrap(), "{plot}");
            assert!(plot["reading"].as_str().unwrap().contains(": "), "numbers under the pointer: {plot}");
        }
        assert!(seen.looks["overflow"].as_f64().unwrap() <= 0.0, "at {width}, the page is wider than the screen");
        backgrounds.push(seen.looks["background"].as_str().unwrap().to_owned());
    }
    assert_eq!(backgrounds.first(), backgrounds.get(2));
    assert_ne!(backgrounds.first(), backgrounds.get(1), "dark where the reader wants it dark");
}

#[test]
fn a_page_in_which_nothing_happened_does_not_complain_either() {
    let (_guard, folder) = folder();
    let seen = open(&folder, &probed(&example::empty()), 1280, false);
    assert_eq!(seen.console, Vec::<String>::new());
    assert_eq!(seen.looks["plots"], serde_json::json!([]));
}

#[test]
fn mistakes_and_fetches_would_be_noticed() {
    let (_guard, folder) = folder();
    let page = page::page(&example::result());
    let broken = page.replace("</body>", "<script>undefined.x</script></body>");
    assert_eq!(open(&folder, &broken, 1280, false).console.len(), 1);
    let fetching = page.replace("</body>", r#"<img src="http://127.0.0.1:9/x.png"></body>"#);
    let console = open(&folder, &fetching, 1280, false).console;
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:?}");
}
