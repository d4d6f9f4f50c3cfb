//! The table: on the terminal, and in bench/RESULTS.md.

use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/RESULTS.md");

#[derive(Clone, Copy)]
enum Required {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// One figure, what is required of it, and what it was made of.
pub struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    detail: String,
    required: Option<Required>,
}

impl Row {
    pub fn new(what: impl Into<String>, figure: f64) -> Self {
        Self { what: what.into(), figure, unit: "", detail: String::new(), required: None }
    }

    /// The same, of something in particular.
    pub fn of(self, prefix: &str) -> Self {
        Self { what: format!("{prefix}{}", self.what), ..self }
    }

    pub fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    pub fn at_least(self, bound: f64) -> Self {
        Self { required: Some(Required::AtLeast(bound)), ..self }
    }

    pub fn at_most(self, bound: f64) -> Self {
        Self { required: Some(Required::AtMost(bound)), ..self }
    }

    pub fn below(self, bound: f64) -> Self {
        Self { required: Some(Required::Below(bound)), ..self }
    }

    fn is_ok(&self) -> bool {
        match self.required {
            None => true,
            Some(Required::AtLeast(bound)) => self.figure >= bound,
            Some(Required::AtMost(bound)) => self.figure <= bound,
            Some(Required::Below(bound)) => self.figure < bound,
        }
    }

    fn cells(&self) -> [String; 5] {
        let unit = self.unit;
        let required = self.required.map_or(String::new(), |required| match required {
            Required::AtLeast(bound) => format!(">= {bound}{unit}"),
            Required::AtMost(bound) => format!("<= {bound}{unit}"),
            Required::Below(bound) => format!("< {bound}{unit}"),
        });
        let result = match (self.required, self.is_ok()) {
            (None, _) => "",
            (Some(_), true) => "ok",
            (Some(_), false) => "MISSED",
        };
        let figure = format!("{:.2}{unit}", self.figure);
        [self.what.clone(), figure, required, result.into(), self.detail.clone()]
    }
}

const HEAD: [&str; 5] = ["", "figure", "required", "", "measured"];

pub struct Report {
    /// Names and values: where and how it was made.
    circumstances: Vec<(&'static str, String)>,
    sections: Vec<(&'static str, Vec<Row>)>,
}

impl Report {
    pub fn new(circumstances: Vec<(&'static str, String)>) -> Self {
        Self { circumstances, sections: Vec::new() }
    }

    pub fn circumstance(&mut self, name: &'static str, value: String) {
        self.circumstances.push((name, value));
    }

    pub fn add(&mut self, title: &'static str, rows: Vec<Row>) {
        self.sections.push((title, rows));
    }

    fn missed(&self) -> usize {
        self.sections.iter().flat_map(|(_, rows)| rows).filter(|row| !row.is_ok()).count()
    }

    pub fn is_ok(&self) -> bool {
        self.missed() == 0
    }

    fn verdict(&self) -> String {
        match self.missed() {
            0 => "Every required figure is reached.".into(),
            1 => "1 required figure is MISSED.".into(),
            missed => format!("{missed} required figures are MISSED."),
        }
    }

    pub fn print(&self) {
        let rows = self.sections.iter().flat_map(|(_, rows)| rows).map(Row::cells);
        let all: Vec<[String; 5]> = rows.chain([HEAD.map(String::from)]).collect();
        let width = |n: usize| all.iter().map(|cells| cells[n].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let line = |[what, figure, required, result, detail]: [String; 5]| {
            let [a, b, c, d, _] = widths;
            let line =
                format!("  {what:<a$}  {figure:>b$}  {required:>c$}  {result:<d$}  {detail}");
            println!("{}", line.trim_end());
        };
        for (name, value) in &self.circumstances {
            println!("{name}: {value}");
        }
        line(HEAD.map(String::from));
        for (title, rows) in &self.sections {
            println!("{title}");
            rows.iter().for_each(|row| line(row.cells()));
        }
        println!("{}", self.verdict());
    }

    pub fn write(&self) {
        let mut text =
            String::from("# Results of `make bench`\n\nMade by the bench; don't edit.\n\n");
        for (name, value) in &self.circumstances {
            writeln!(text, "- {name}: {value}").unwrap();
        }
        writeln!(text, "\nRatios are medians of the rounds' ratios. {}", self.verdict()).unwrap();
        for (title, rows) in &self.sections {
            write!(text, "\n## {title}\n\n| {} |\n|---|--:|--:|---|---|\n", HEAD.join(" | "))
                .unwrap();
            for row in rows {
                writeln!(text, "| {} |", row.cells().join(" | ")).unwrap();
            }
        }
        std::fs::write(FILE, text).unwrap();
        println!("written to {FILE}");
    }
}
