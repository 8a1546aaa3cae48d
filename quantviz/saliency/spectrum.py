"""Where people look, predicted from the spectrum of the image."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from quantviz.saliency.maps import degenerate, resized, to_heatmap
from quantviz.specs import RGB, Heatmap

WIDTH = 64
"""Pixels that the image is resized to in width before its spectrum is taken."""

SIGMA = 2.5
"""Standard deviation of the final Gaussian, in pixels of the image of ``WIDTH`` pixels."""

_REACH = 5  # the authors' kernel is 10 taps long
_FLOOR = 1e-8  # of the largest amplitude; float32 rounding in the resized image lies below it
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)  # Rec. 601


def spectral_residual(rgb: RGB) -> Heatmap:
    """Predict where people look from the unexpected part of an image's log amplitude spectrum.

    The spectral residual of X. Hou and L. Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007,
    doi 10.1109/CVPR.2007.383267. With F the Fourier transform of the grey image, L = ln abs(F) and mean3 a 3x3
    average with replicated border, the residual is R = L - mean3(L), and the map is
    abs(inverse Fourier transform of exp(R) F / abs(F)) squared, smoothed by a Gaussian and min-max scaled.

    The settings are those of the authors' published code: an image 64 pixels wide (bicubic, antialiased) and a
    Gaussian of sigma 2.5 with zeros beyond the border. (The paper's text names sigma 8.) Two differences: the
    Gaussian's window is 11 pixels rather than 10, because an even window moves the map by half a pixel; and
    amplitudes below 1e-8 of the largest, which are rounding noise, are damped rather than raised to the level
    of the others.

    Args:
        rgb: uint8 (h, w, 3).

    Returns:
        A map at (h, w), scaled back bilinearly; degenerate (``"constant image"``) where all is one grey level.
    """
    height, width = rgb.shape[:2]
    # Channel by channel in float32, because a large photograph in float64 takes a gigabyte.
    grey = sum((rgb[..., i] * weight for i, weight in enumerate(_LUMA)), np.zeros((height, width), np.float32))
    small = resized(grey, max(1, round(height * WIDTH / width)), WIDTH, Image.Resampling.BICUBIC)
    if degenerate(small):
        return Heatmap(np.zeros((height, width), np.float32), "constant image")
    spectrum = np.fft.fft2(small)
    amplitude = np.abs(spectrum)
    amplitude = np.maximum(amplitude, _FLOOR * amplitude.max())
    log_amplitude = np.log(amplitude)
    residual = log_amplitude - ndimage.uniform_filter(log_amplitude, size=3, mode="nearest")
    energy = np.abs(np.fft.ifft2(np.exp(residual) * spectrum / amplitude)) ** 2
    smooth = ndimage.gaussian_filter(energy, SIGMA, mode="constant", radius=_REACH)
    return to_heatmap(resized(smooth / smooth.max(), height, width, Image.Resampling.BILINEAR))
