"""Figures of a study: functions that take a tidy table, and where they draw one panel Axes, and return the Axes.

Each function draws on the `ax` it is given, or on a figure of its own that is large enough for the table; that
figure is `ax.figure`, which a notebook shows. Those of several panels make their figure and return a list of Axes. No
function touches pyplot's global state or the rcParams. Colours are those of Okabe & Ito (2008), which stay apart under
the common forms of colour blindness. `save_figure` in `figure_files` writes a figure as SVG and PDF.

This module names them all; each is defined in the module of its theme.
"""

from .answer_figures import position_bars as position_bars
from .behaviour_figures import behaviour_dots as behaviour_dots
from .calibration_figures import reliability_diagram as reliability_diagram
from .correlation_figures import control_dots as control_dots
from .correlation_figures import correlation_bars as correlation_bars
from .correlation_figures import correlation_panels as correlation_panels
from .heatmaps import calibration_heatmap as calibration_heatmap
from .heatmaps import correlation_heatmap as correlation_heatmap
from .heatmaps import subject_heatmap as subject_heatmap
from .intervention_figures import dose_response_curves as dose_response_curves
from .layer_figures import layer_curve as layer_curve
from .lens_figures import lens_curves as lens_curves
from .null_figures import permutation_histograms as permutation_histograms
from .probe_figures import control_scores as control_scores
from .probe_figures import learning_curves as learning_curves
from .selective_figures import risk_coverage_curves as risk_coverage_curves
from .similarity_figures import cka_curves as cka_curves
from .similarity_figures import rsa_curve as rsa_curve
from .simultaneity_figures import simultaneity_scatter as simultaneity_scatter
from .transfer_figures import transfer_heatmap as transfer_heatmap
from .tuning_figures import tuning_differences as tuning_differences
from .tuning_figures import tuning_slopes as tuning_slopes
from .two_target_figures import two_target_curves as two_target_curves
