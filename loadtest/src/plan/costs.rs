//! Unit costs, each with its source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_plumbing::config::{Document, FromValue, Given, Problems, Refused, Section};

use super::simulate::Work;
use crate::{Datapath, Failure};

/// The costs that a plan takes when it is given no others.
pub(crate) const DEFAULT: &str = include_str!("costs.toml");

/// Everything that a plan multiplies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Costs {
    pub(crate) tun: Gateway,
    pub(crate) netstack: Gateway,
    pub(crate) registration: Work,
    pub(crate) sidecar: Sidecar,
    /// Questions a second that a chain endpoint answers.
    pub(crate) questions_per_second: f64,
    /// Writes a second that the registry takes.
    pub(crate) registry_writes: f64,
    /// Where each number comes from: its key, itself, and the source.
    pub(crate) sources: Vec<(String, f64, String)>,
}

/// What a gateway costs on one datapath.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gateway {
    pub(crate) base_mib: f64,
    pub(crate) session_kib: f64,
    pub(crate) instance_kib: f64,
    pub(crate) base_cores: f64,
    pub(crate) instance_us_per_second: f64,
    pub(crate) connection_us: f64,
    pub(crate) request: Request,
    pub(crate) gib_s: f64,
}

/// What a sidecar costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sidecar {
    pub(crate) shared_mib: f64,
    pub(crate) base_mib: f64,
    pub(crate) session_kib: f64,
    pub(crate) base_cores: f64,
    pub(crate) connection_us: f64,
    pub(crate) request: Request,
}

/// What a small request and its answer cost a process. Who works without a pause finds the next request when the last one is done;
/// who is seldom asked has to be woken, on a processor whose caches others have used meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Request {
    /// Processor time when requests follow each other at once, in microseconds.
    pub(crate) busy_us: f64,
    /// How much longer it takes when they are far apart, in microseconds.
    pub(crate) waking_us: f64,
    /// The rate, in requests a second, at which it is half of that.
    pub(crate) half_awake: f64,
}

impl Request {
    /// Processor time of one of them, in microseconds, when so many come in a second.
    pub(crate) fn us(self, per_second: f64) -> f64 {
        self.busy_us + self.waking_us / (1.0 + per_second / self.half_awake)
    }
}

impl Costs {
    /// Reads a file, or takes what was measured here.
    pub(crate) fn load(file: Option<&PathBuf>) -> Result<Self, Failure> {
        let text = match file {
            None => DEFAULT.to_owned(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?,
        };
        let name = file.map_or(Path::new("costs.toml"), PathBuf::as_path);
        Self::parse(&text).map_err(|problems| Failure::Scenario(format!("{}:\n{problems}", name.display())))
    }

    fn parse(text: &str) -> Result<Self, Problems> {
        let mut document = Document::parse_alone(text)?;
        let mut reader = Reader { sources: Vec::new() };
        let mut gateway = document.section("gateway");
        let tun = reader.gateway(&mut gateway.section("tun"), "gateway.tun");
        let netstack = reader.gateway(&mut gateway.section("netstack"), "gateway.netstack");
        let registration = reader.work(&mut document.section("registration"));
        let sidecar = reader.sidecar(&mut document.section("sidecar"));
        let questions = reader.number(&mut document.section("chain"), "chain", "questions_per_second");
        let writes = reader.number(&mut document.section("registry"), "registry", "writes_per_second");
        let costs = Self {
            tun,
            netstack,
            registration,
            sidecar,
            questions_per_second: questions,
            registry_writes: writes,
            sources: reader.sources,
        };
        document.finish_with(Some(costs))
    }

    /// The costs of a gateway on a datapath.
    pub(crate) const fn gateway(&self, datapath: Datapath) -> &Gateway {
        match datapath {
            Datapath::Tun => &self.tun,
            Datapath::Netstack => &self.netstack,
        }
    }
}

/// Reads numbers, and remembers where they come from.
struct Reader {
    sources: Vec<(String, f64, String)>,
}

impl Reader {
    fn gateway(&mut self, section: &mut Section<'_>, name: &str) -> Gateway {
        let mut number = |key| self.number(section, name, key);
        Gateway {
            base_mib: number("base_mib"),
            session_kib: number("session_kib"),
            instance_kib: number("instance_kib"),
            base_cores: number("base_cores"),
            instance_us_per_second: number("instance_us_per_second"),
            connection_us: number("connection_us"),
            gib_s: number("gib_s"),
            request: self.request(section, name),
        }
    }

    fn sidecar(&mut self, section: &mut Section<'_>) -> Sidecar {
        let mut number = |key| self.number(section, "sidecar", key);
        Sidecar {
            shared_mib: number("shared_mib"),
            base_mib: number("base_mib"),
            session_kib: number("session_kib"),
            base_cores: number("base_cores"),
            connection_us: number("connection_us"),
            request: self.request(section, "sidecar"),
        }
    }

    fn request(&mut self, section: &mut Section<'_>, name: &str) -> Request {
        let mut number = |key| self.number(section, name, key);
        Request {
            busy_us: number("request_us"),
            waking_us: number("waking_us"),
            half_awake: number("half_awake_per_second"),
        }
    }

    fn work(&mut self, section: &mut Section<'_>) -> Work {
        let mut time = |key| Duration::from_secs_f64(self.number(section, "registration", key) / 1e6);
        Work {
            handshake: time("handshake_us"),
            appraisal: time("appraisal_us"),
            renewal: time("renewal_us"),
            cut: time("cut_us"),
        }
    }

    /// A number with its source. Rates and times of 0 would make a plan of nothing, so that they are mistakes.
    fn number(&mut self, section: &mut Section<'_>, name: &str, key: &str) -> f64 {
        let mut number = section.section(key);
        let value = number.required::<Positive>("value").map_or(1.0, |Positive(value)| value);
        if let Some(source) = number.required::<String>("source") {
            self.sources.push((format!("{name}.{key}"), value, source));
        }
        value
    }
}

/// More than nothing, and less than anything measures.
#[derive(Debug, Clone, Copy)]
struct Positive(f64);

impl FromValue for Positive {
    const EXPECTED: &'static str = "a number above 0";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        given.float().filter(|&value| value > 0.0 && value < 1e12).map(Self).ok_or(Refused::Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_default_file_has_a_source() {
        let costs = Costs::parse(DEFAULT).unwrap();
        assert_eq!(costs.sources.len(), 10 + 10 + 4 + 8 + 2);
        assert!(costs.sources.iter().all(|(_, value, source)| *value > 0.0 && source.len() > 10));
        assert_eq!(costs.registration.appraisal, Duration::from_micros(1114));
    }

    #[test]
    fn who_is_seldom_asked_takes_longer() {
        let request = Request { busy_us: 100.0, waking_us: 60.0, half_awake: 20.0 };
        let took = [0.0, 20.0, 1e9].map(|rate| request.us(rate).round());
        assert_eq!(took, [160.0, 130.0, 100.0]);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let broken = DEFAULT
            .replacen("connection_us = { value = 308,", "connection_us = { value = -1,", 1)
            .replacen("[chain]", "[chains]", 1);
        let problems = Costs::parse(&broken).unwrap_err().to_string();
        for wrong in ["gateway.tun.connection_us.value", "chains", "chain.questions_per_second"] {
            assert!(problems.contains(wrong), "{wrong} in {problems}");
        }
    }
}
