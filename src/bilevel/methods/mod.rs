//! The methods and their registry. Each file is one method, from its paper: settings with the published defaults, and a step that reads like
//! the algorithm. The settings that all share have the same names everywhere: `batch_size`, `outer_batch_size`, `inner_step_size`,
//! `outer_step_size`, and where a method has them `inner_steps`, `linear_steps` and `linear_step_size` (of the linear system H q = b).

mod aid_cg;
mod amigo;
mod bome;
mod bsa;
mod exact;
mod f2sa;
mod fsla;
mod itd;
mod nhgd;
mod nhgd_pcg;
pub(crate) mod parts;
mod pzobo;
mod random_neumann;
mod soba;
mod stocbio;
mod ttsa;

use serde::{Deserialize, Serialize};

pub use aid_cg::Config as AidCgConfig;
pub use amigo::Config as AmigoConfig;
pub use bome::Config as BomeConfig;
pub use bsa::Config as BsaConfig;
pub use exact::Config as ExactConfig;
pub use f2sa::Config as F2saConfig;
pub use fsla::Config as FslaConfig;
pub use itd::Config as ItdConfig;
pub use nhgd::{Config as NhgdConfig, CurvatureRows, Start};
pub use nhgd_pcg::Config as NhgdPcgConfig;
pub use pzobo::Config as PzoboConfig;
pub use soba::Config as SobaConfig;
pub use stocbio::Config as StocBioConfig;
pub use ttsa::Config as TtsaConfig;

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
    NhgdPcg(nhgd_pcg::NhgdPcg): "NHGD whose sketch preconditions conjugate gradients on exact Hessian products";
    Soba(soba::Soba): "θ, the linear system and v move at once, one batch a step";
    Amigo(amigo::Amigo): "inner SGD, then SGD on the linear system, both warm-started";
    Stocbio(stocbio::StocBio): "inner SGD, then Neumann's series with a fresh batch a factor";
    AidCg(aid_cg::AidCg): "approximate implicit differentiation: conjugate gradients on Hessian products, warm-started";
    Itd(itd::Itd): "iterative differentiation: backwards through the inner steps, all or the last few";
    Bsa(bsa::Bsa): "bilevel stochastic approximation: inner SGD, then Neumann's series cut off at random";
    Ttsa(ttsa::Ttsa): "two-timescale stochastic approximation: one inner step, Neumann's series cut off at random";
    Fsla(fsla::Fsla): "fully single loop algorithm: one step each on θ and the linear system, momentum on v";
    F2sa(f2sa::F2sa): "fully first-order stochastic approximation: the inner problem as a growing penalty";
    Bome(bome::Bome): "first-order descent on f under a dynamic barrier for the inner problem";
    Pzobo(pzobo::Pzobo): "the inner loop's Jacobian from differences along Gaussian directions";
}
