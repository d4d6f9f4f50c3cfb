//! Formats: what goes to standard output. Data only, complete, and the same with and without a terminal but for widths.

mod json;
mod table;
mod template;
mod text;

use std::io::{self, BufWriter, StdoutLock, Write};

use sequin_client::rows::{Column, Kind, Row, Rows};
use sequin_client::{Error, Result};

use template::Template;

#[derive(Clone, Debug)]
pub enum Format {
    Table,
    Json,
    JsonLines,
    Yaml,
    Csv,
    Template(String),
}

/// What a table looks like to people; other formats have rows in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Table,
    /// A line for each column.
    Record,
    /// Just the value.
    Value,
}

impl Format {
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "table" => Format::Table,
            "json" => Format::Json,
            "jsonl" => Format::JsonLines,
            "yaml" => Format::Yaml,
            "csv" => Format::Csv,
            _ => match text.strip_prefix("format ") {
                Some(template) => Format::Template(template.to_owned()),
                None => {
                    return Err(Error::usage(format!("unknown output format \"{text}\""))
                        .with_hint(
                            "It may be table, json, jsonl, yaml, csv, or 'format {seq} {key}'.",
                        ));
                }
            },
        })
    }

    pub fn print(&self, layout: Layout, rows: &Rows) -> Result<()> {
        let mut printer = Printer::new(self, layout, &rows.columns)?;
        for row in &rows.rows {
            printer.row(row)?;
        }
        printer.end()
    }
}

/// Prints rows as they come.
pub struct Printer {
    columns: Vec<Column>,
    style: Style,
    out: BufWriter<StdoutLock<'static>>,
    count: u64,
}

enum Style {
    /// Rows wait until their widths are known, or there are many.
    Table {
        layout: Layout,
        waiting: Vec<Row>,
        has_header: bool,
    },
    Json,
    JsonLines,
    Yaml,
    Csv,
    Template(Template),
}

/// Rows of a table that are laid out together: beyond, memory would grow with the result.
const LAID_OUT_TOGETHER: usize = 1000;

impl Printer {
    pub fn new(format: &Format, layout: Layout, columns: &[Column]) -> Result<Self> {
        let columns: Vec<Column> =
            columns.iter().copied().filter(|column| column.kind != Kind::Void).collect();
        let style = match format {
            Format::Table => Style::Table { layout, waiting: Vec::new(), has_header: true },
            Format::Json => Style::Json,
            Format::JsonLines => Style::JsonLines,
            Format::Yaml => Style::Yaml,
            Format::Csv => Style::Csv,
            Format::Template(text) => Style::Template(Template::parse(text, &columns)?),
        };
        let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        Ok(Self { columns, style, out, count: 0 })
    }

    pub fn row(&mut self, row: &Row) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        match &mut self.style {
            Style::Table { waiting, .. } => {
                waiting.push(row.clone());
                if waiting.len() >= LAID_OUT_TOGETHER {
                    self.lay_out()?;
                }
            }
            Style::Json => {
                let lead = if self.count == 0 { "[" } else { ",\n " };
                write!(self.out, "{lead}{}", json::object(&self.columns, row))?;
            }
            Style::JsonLines => writeln!(self.out, "{}", json::object(&self.columns, row))?,
            Style::Yaml => write!(self.out, "{}", text::yaml(&self.columns, row))?,
            Style::Csv => {
                if self.count == 0 {
                    let names: Vec<&str> = self.columns.iter().map(|c| c.name).collect();
                    writeln!(self.out, "{}", names.join(","))?;
                }
                writeln!(self.out, "{}", text::csv(&self.columns, row))?;
            }
            Style::Template(template) => {
                writeln!(self.out, "{}", template.fill(row))?;
            }
        }
        self.count += 1;
        Ok(())
    }

    fn lay_out(&mut self) -> Result<()> {
        if let Style::Table { layout, waiting, has_header } = &mut self.style {
            let text = match layout {
                Layout::Table => table::table(&self.columns, waiting, *has_header),
                Layout::Record => table::records(&self.columns, waiting),
                Layout::Value => table::values(&self.columns, waiting),
            };
            waiting.clear();
            *has_header = false;
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// What has been printed so far is out then.
    pub fn flush(&mut self) -> Result<()> {
        self.lay_out_waiting()?;
        Ok(self.out.flush()?)
    }

    fn lay_out_waiting(&mut self) -> Result<()> {
        match &self.style {
            Style::Table { waiting, .. } if !waiting.is_empty() => self.lay_out(),
            _ => Ok(()),
        }
    }

    pub fn end(&mut self) -> Result<()> {
        if !self.columns.is_empty() {
            match &self.style {
                Style::Table { layout: Layout::Table, has_header: true, .. } => self.lay_out()?,
                Style::Table { .. } => self.lay_out_waiting()?,
                Style::Json if self.count == 0 => writeln!(self.out, "[]")?,
                Style::Json => writeln!(self.out, "]")?,
                Style::Yaml if self.count == 0 => writeln!(self.out, "[]")?,
                Style::Csv if self.count == 0 => {
                    let names: Vec<&str> = self.columns.iter().map(|c| c.name).collect();
                    writeln!(self.out, "{}", names.join(","))?;
                }
                _ => {}
            }
        }
        Ok(self.out.flush()?)
    }
}
