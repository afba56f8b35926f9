//! The methods and their registry. Each file is one method, from its paper: settings with the published defaults, and a step that reads like
//! the algorithm. The settings that all share have the same names everywhere: `batch_size`, `outer_batch_size`, `inner_step_size`,
//! `outer_step_size`, and where a method has them `inner_steps`, `linear_steps` and `linear_step_size` (of the linear system H q = b).

mod exact;
mod nhgd;
pub(crate) mod parts;

use serde::{Deserialize, Serialize};

pub use exact::Config as ExactConfig;
pub use nhgd::{Config as NhgdConfig, CurvatureRows, Start};

use super::{Method, Observer, Phase, State};
use crate::error::Result;

/// Declares the registry: for each method its variant, its type and its one-line description.
macro_rules! methods {
    ($($variant:ident($module:ident::$method:ident): $about:literal;)*) => {
        /// The configuration of a method.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum MethodConfig {
            $(#[doc = $about] $variant($module::Config),)*
        }

        impl MethodConfig {
            /// Name and description of every method.
            pub const REGISTRY: &'static [(&'static str, &'static str)] = &[$(($module::$method::NAME, $about)),*];

            /// The method's default settings.
            pub fn default_of(name: &str) -> Option<Self> {
                match name {
                    $($module::$method::NAME => Some(Self::$variant($module::Config::default())),)*
                    _ => None,
                }
            }

            /// Checks the settings.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) that names the setting.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// The method with these settings.
            ///
            /// # Errors
            /// As [`validate`](Self::validate).
            pub fn build(&self) -> Result<Box<dyn Method>> {
                match self { $(Self::$variant(config) => Ok(Box::new($module::$method::new(config.clone())?)),)* }
            }
        }
    };
}

methods! {
    Nhgd(nhgd::Nhgd): "natural hypergradient descent: an inverse Fisher sketch updated alongside the inner SGD";
    Exact(exact::Exact): "the same inner SGD with a dense Hessian solve at each outer step: the reference";
}
