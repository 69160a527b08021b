//! Telling the user what is being done: a spinner on a terminal, plain lines elsewhere, nothing in tests.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where progress is shown.
#[derive(Debug, Clone)]
enum Output {
    Terminal(MultiProgress),
    Lines,
    Quiet,
}

/// Shows steps with the time that they took. Several threads may show steps at once.
#[derive(Debug, Clone)]
pub struct Progress {
    output: Output,
    start: Instant,
}

const TICK: Duration = Duration::from_millis(100);
/// A step that takes longer is announced before it begins, where there is no spinner.
const MINUTE_STEP: bool = true;

impl Progress {
    /// On standard error, as fits what that is.
    pub fn shown() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let output = if terminal { Output::Terminal(MultiProgress::new()) } else { Output::Lines };
        Self { output, start: Instant::now() }
    }

    /// Nowhere.
    pub fn quiet() -> Self {
        Self { output: Output::Quiet, start: Instant::now() }
    }

    /// How long the whole work has taken.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does a step and shows how long it took.
    ///
    /// # Errors
    /// The step's own.
    pub fn step<T, E>(&self, title: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.work(title, !MINUTE_STEP, work)
    }

    /// Does a step that may take minutes.
    ///
    /// # Errors
    /// The step's own.
    pub fn long_step<T, E>(&self, title: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.work(title, MINUTE_STEP, work)
    }

    fn work<T, E>(&self, title: &str, announced: bool, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let begin = Instant::now();
        let spinner = self.spinner(title);
        if announced && matches!(self.output, Output::Lines) {
            eprintln!("{:>7.1}s  {title} ...", self.elapsed().as_secs_f64());
        }
        let result = work();
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let outcome = if result.is_ok() { "" } else { "failed after " };
        self.line(&format!("{title} ({outcome}{:.1} s)", begin.elapsed().as_secs_f64()));
        result
    }

    /// Shows a line with the time since the beginning.
    pub fn line(&self, text: &str) {
        let line = format!("{:>7.1}s  {text}", self.elapsed().as_secs_f64());
        match &self.output {
            Output::Terminal(bars) => bars.suspend(|| eprintln!("{line}")),
            Output::Lines => eprintln!("{line}"),
            Output::Quiet => {}
        }
    }

    fn spinner(&self, title: &str) -> Option<ProgressBar> {
        let Output::Terminal(bars) = &self.output else { return None };
        let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:>6}  {msg}").ok()?;
        let bar = bars.add(ProgressBar::new_spinner().with_style(style).with_message(title.to_owned()));
        bar.enable_steady_tick(TICK);
        Some(bar)
    }
}
