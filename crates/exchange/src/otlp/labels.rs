//! Labels of a point: its attributes, and what its resource and scope add.

use std::borrow::Cow;

use super::name::label_name;
use super::translate::{Options, Refused, shown};
use super::{Attribute, Resource, Scope};

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_NAMESPACE: &str = "service.namespace";
pub(super) const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Longest name and value in `target_info`, whose series would else be refused: command lines are longer.
const INFO_BYTES_MAX: usize = 1024;

/// Most attributes in `target_info`; beside them stand its name, `job` and `instance`.
const INFO_LABELS_MAX: usize = 60;

/// What becomes `job` and `instance`.
const IDENTIFYING: [&str; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID];

/// Pairs that are kept beyond the message's level they stand on.
type Pairs = Vec<(String, String)>;

/// What a resource adds to its points.
#[derive(Debug, Default)]
pub(super) struct OfResource {
    /// Where a point has no such label.
    promoted: Pairs,
    /// In place of what a point has.
    job: Option<String>,
    instance: Option<String>,
    /// Labels of `target_info`, without its name; empty where it has none.
    pub(super) info: Pairs,
}

impl OfResource {
    pub(super) fn new(options: &Options, resource: &Resource<'_>) -> Result<Self, Refused> {
        let attributes = resource.attributes.map_err(Refused::Attributes)?;
        // Without what tells its series apart they would be one.
        let tells = |key: &str| IDENTIFYING.contains(&key) || options.promotes(key);
        if let Some((_, fault)) = resource.left_out.iter().find(|(key, _)| tells(key)) {
            return Err(Refused::Attributes(*fault));
        }
        let value = |key: &str| {
            let last = attributes.iter().rev().find(|attribute| attribute.key == key);
            last.map(|attribute| attribute.value.to_string())
        };
        let job = match (value(SERVICE_NAMESPACE), value(SERVICE_NAME)) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name,
        };
        let instance = value(SERVICE_INSTANCE_ID);
        let mut this = Self { promoted: Pairs::new(), job, instance, info: Pairs::new() };
        for Attribute { key, value } in attributes {
            if options.promotes(key) {
                this.promoted.push((options.label_name(key)?.into_owned(), value.to_string()));
            }
        }
        this.info = this.info(options, attributes);
        Ok(this)
    }

    /// There is nothing to inform of where all attributes are in `job` and `instance`, and nothing
    /// to know it by where there is neither.
    fn info(&self, options: &Options, attributes: &[Attribute<'_>]) -> Pairs {
        let identifies = |attribute: &&Attribute<'_>| IDENTIFYING.contains(&&*attribute.key);
        if attributes.iter().all(|attribute| identifies(&attribute)) {
            return Pairs::new();
        }
        let keep = options.keep_identifying_resource_attributes;
        // What cannot be a label is left out: it is information, and no part of a point's identity.
        let kept = attributes.iter().filter(|attribute| keep || !identifies(attribute));
        let kept = kept.filter(|attribute| {
            attribute.key.len().max(attribute.value.len()) <= INFO_BYTES_MAX
                && options.label_name(&attribute.key).is_ok()
        });
        let mut labels = LabelSet::default();
        if labels.attributes(options, kept.take(INFO_LABELS_MAX)).is_err() {
            return Pairs::new();
        }
        labels.identity(self);
        let labels = labels.finish(options);
        if labels.iter().any(|(name, _)| name == "job" || name == "instance") {
            let owned = |(name, value): Pair<'_>| (name.into_owned(), value.into_owned());
            labels.into_iter().map(owned).collect()
        } else {
            Pairs::new()
        }
    }
}

/// What a scope adds to its points, if it is to.
pub(super) fn of_scope(options: &Options, scope: &Scope<'_>) -> Result<Pairs, Refused> {
    if !options.promote_scope_metadata || scope.name.is_empty() {
        return Ok(Pairs::new());
    }
    let mut pairs = Pairs::new();
    for Attribute { key, value } in scope.attributes.map_err(Refused::Attributes)? {
        let name = format!("otel_scope_{key}");
        pairs.push((options.label_name(&name)?.into_owned(), value.to_string()));
    }
    // Last, so that no attribute of such a name stands in their place.
    for (name, value) in
        [("name", scope.name), ("version", scope.version), ("schema_url", scope.schema_url)]
    {
        pairs.push((format!("otel_scope_{name}"), value.to_owned()));
    }
    Ok(pairs)
}

/// A label's name and value.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Who says a label; later ones stand over earlier ones, but for promoted attributes, which stand
/// where a point says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Point,
    Resource,
    Scope,
    Identity,
}

/// Labels as they come together: in the order of who says them, names met several times.
#[derive(Debug, Default)]
pub(super) struct LabelSet<'a>(Vec<(Of, Pair<'a>)>);

impl<'a> LabelSet<'a> {
    /// All labels of a point but its metric's name, sorted by name, without empty ones.
    pub(super) fn of_point(
        options: &Options,
        resource: &'a OfResource,
        scope: &'a [(String, String)],
        attributes: &'a [Attribute<'a>],
    ) -> Result<Vec<Pair<'a>>, Refused> {
        let mut labels = Self::default();
        labels.attributes(options, attributes.iter())?;
        labels.add(Of::Resource, &resource.promoted);
        labels.add(Of::Scope, scope);
        labels.identity(resource);
        Ok(labels.finish(options))
    }

    /// Attributes in order of their names, so that values of those whose names become the same stand
    /// in one order.
    fn attributes<'o>(
        &mut self,
        options: &Options,
        attributes: impl Iterator<Item = &'o Attribute<'o>>,
    ) -> Result<(), Refused>
    where
        'o: 'a,
    {
        let mut sorted: Vec<&'a Attribute<'a>> =
            attributes.map(|attribute| attribute as &Attribute<'a>).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for Attribute { key, value } in sorted {
            self.0.push((Of::Point, (options.label_name(key)?, Cow::Borrowed(value))));
        }
        Ok(())
    }

    fn add(&mut self, of: Of, pairs: &'a [(String, String)]) {
        let pairs = pairs.iter().map(|(name, value)| (of, (name.into(), value.into())));
        self.0.extend(pairs);
    }

    fn identity(&mut self, resource: &'a OfResource) {
        for (name, value) in [("job", &resource.job), ("instance", &resource.instance)] {
            if let Some(value) = value {
                self.0.push((Of::Identity, (name.into(), value.into())));
            }
        }
    }

    fn finish(mut self, options: &Options) -> Vec<Pair<'a>> {
        let joins = options.translation_strategy.escapes();
        // Stable: what is said of one name stays in the order of who says it.
        self.0.sort_by(|(_, (a, _)), (_, (b, _))| a.cmp(b));
        let mut labels: Vec<Pair<'a>> = Vec::with_capacity(self.0.len());
        for (of, (name, value)) in self.0 {
            match labels.last_mut().filter(|(there, _)| *there == name) {
                None => labels.push((name, value)),
                Some((_, there)) if there.is_empty() => *there = value,
                Some((_, there)) => match of {
                    Of::Point if joins => {
                        let there = there.to_mut();
                        there.push(';');
                        there.push_str(&value);
                    }
                    Of::Resource => {}
                    Of::Point | Of::Scope | Of::Identity => *there = value,
                },
            }
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels
    }
}

impl Options {
    fn label_name<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, Refused> {
        let sanitize = self.label_name_underscore_sanitization;
        let multiple = self.label_name_preserve_multiple_underscores;
        label_name(self.translation_strategy, sanitize, multiple, name)
            .ok_or_else(|| Refused::LabelName(shown(name)))
    }

    fn promotes(&self, key: &str) -> bool {
        if self.promote_all_resource_attributes {
            !self.ignore_resource_attributes.contains(key)
        } else {
            self.promote_resource_attributes.contains(key)
        }
    }
}
