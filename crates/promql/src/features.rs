//! The parts of the language that Prometheus has behind switches.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Functions and aggregations that may still change: `info`, `limitk`, `sort_by_label`, …
    ExperimentalFunctions,
    /// Arithmetic in durations: `[5m * 2]`, `offset (step() + 1)`.
    DurationExpressions,
    /// `anchored` and `smoothed`.
    ExtendedRangeSelectors,
    /// `fill`, `fill_left`, `fill_right`.
    FillModifiers,
    /// Names that no longer fit go at the end of a query, not where they cease to fit.
    DelayedNameRemoval,
    /// `rate`, `increase`, `irate`, `resets` know when counters began, where samples say so.
    StartTimestamps,
}

impl Feature {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::ExperimentalFunctions,
        Self::DurationExpressions,
        Self::ExtendedRangeSelectors,
        Self::FillModifiers,
        Self::DelayedNameRemoval,
        Self::StartTimestamps,
    ];

    /// What Prometheus calls it after `--enable-feature=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExperimentalFunctions => "promql-experimental-functions",
            Self::DurationExpressions => "promql-duration-expr",
            Self::ExtendedRangeSelectors => "promql-extended-range-selectors",
            Self::FillModifiers => "promql-binop-fill-modifiers",
            Self::DelayedNameRemoval => "promql-delayed-name-removal",
            Self::StartTimestamps => "use-start-timestamps",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::ExperimentalFunctions => 1,
            Self::DurationExpressions => 2,
            Self::ExtendedRangeSelectors => 4,
            Self::FillModifiers => 8,
            Self::DelayedNameRemoval => 16,
            Self::StartTimestamps => 32,
        }
    }
}

/// Prometheus's name for it.
impl std::str::FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|feature| feature.name() == name);
        known.ok_or(UnknownFeature)
    }
}

/// There is no feature of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such feature; there are {}", Feature::ALL.map(Feature::name).join(", "))]
pub struct UnknownFeature;

/// Those that are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// None, as Prometheus starts.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// All, as Prometheus's own scripts want them.
    #[must_use]
    pub fn all() -> Self {
        Feature::ALL.into_iter().collect()
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature.bit())
    }

    /// Whether it is on.
    #[must_use]
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }
}

/// All that only add to the language. Delayed removal of names and start timestamps change what queries
/// answer, so they are off, as in Prometheus.
impl Default for Features {
    fn default() -> Self {
        let adds = |feature: &Feature| {
            !matches!(feature, Feature::DelayedNameRemoval | Feature::StartTimestamps)
        };
        Feature::ALL.into_iter().filter(adds).collect()
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<T: IntoIterator<Item = Feature>>(features: T) -> Self {
        features.into_iter().fold(Self::none(), Self::with)
    }
}
