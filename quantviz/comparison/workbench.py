"""From a request to a comparison, by way of the store and the loaded models."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quantviz import images, networks, scores
from quantviz.cam import Locked, cores
from quantviz.comparison.calibration import calibration_set
from quantviz.comparison.deploy import Backends, milliseconds, parted_layer
from quantviz.comparison.job import Job, comparison_of, input_of
from quantviz.comparison.loaded import LoadedNetworks, Subject
from quantviz.comparison.machine import SIMULATION_VERSION, backend_versions
from quantviz.comparison.pair import pair_scores
from quantviz.comparison.pool import Pool
from quantviz.comparison.protocols import (
    MANY_PASSES,
    ProtocolNetworks,
    explained,
    finished,
    network_quant,
    seed_of,
    subject_of,
    target_of,
)
from quantviz.comparison.records import pack_comparison, pack_result, unpack_result, with_deployed
from quantviz.comparison.references import saliency_source
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.together import together
from quantviz.specs import (
    RGB,
    CamResult,
    CamSpec,
    Comparison,
    Deployed,
    Heatmap,
    ImageSample,
    Phase,
    Preprocessing,
    Progress,
    QuantSpec,
    StoredRecord,
    UsageError,
    Variant,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from torch import Tensor, nn


_CROPS = 4
_PROTOCOL_IN_TORCH = (
    "ONNX Runtime runs the calibrated protocol only; under this one the float map is computed in torch."
)


class Workbench:
    """Loaded models and quantized copies over one store; any number of threads may share it.

    Args:
        store: where maps and ranges are kept.
        float_models: how many float models to keep in memory.
        quantized_models: how many quantized copies to keep.
    """

    def __init__(self, store: TensorStore, *, float_models: int = 3, quantized_models: int = 4) -> None:
        self.store = store
        self.networks = LoadedNetworks(store, float_models=float_models, quantized_models=quantized_models)
        self.protocols = ProtocolNetworks(self.networks)
        self.backends = Backends(self.networks, limit=float_models, simulated=quantized_models)
        self._crops: Pool[RGB] = Pool(_CROPS)

    def compare(self, request: CompareRequest, sample: ImageSample, progress: Progress = no_progress) -> Comparison:
        """Compare the float and the quantized model on one image; what the store holds is not computed again.

        Args:
            request: what to compare by.
            sample: the picture.
            progress: reports what is being done; whatever it raises ends the call and leaves nothing half done.

        Raises:
            UsageError: an unknown model, layer or class, or a file that cannot be used.
            WeightsUnavailable: the weights are neither on disk nor reachable.
            QuantvizError: the model gave values that are not finite.
        """
        started = time.perf_counter()
        job = self._job(request, sample, progress)
        record = self.store.get(job.key)
        if record is not None:
            return comparison_of(job, record, started, cached=True)
        # First, so that a map that does not fit is refused at once.
        salient = job.saliency.heatmap(sample, job.crop, job.preprocessing)
        record = self._computed(self._loaded_job(job), salient)
        self.store.put_later(job.key, record)
        return comparison_of(job, record, started, cached=False)

    def stored(
        self, request: CompareRequest, sample: ImageSample, progress: Progress = no_progress
    ) -> Comparison | None:
        """Return the comparison that ``compare`` would read from the store, or None; no network is run.

        To know which weights are meant, published ones may be downloaded and untrained ones drawn.

        Args:
            request: as in ``compare``.
            sample: the picture.
            progress: reports a download; whatever it raises ends the call.

        Raises:
            as ``compare``.
        """
        started = time.perf_counter()
        job = self._job(request, sample, progress)
        record = self.store.get(job.key)
        return None if record is None else comparison_of(job, record, started, cached=True)

    def has_learned(self, request: CompareRequest, progress: Progress = no_progress) -> bool:
        """Return whether the store holds the weights that a request's scheme learns, True where it learns none.

        Learning takes minutes, so that a page asks before ``compare`` begins it.

        Raises:
            as ``compare``.
        """
        if not request.quant.learns:
            return True
        return self.networks.has_learned(self.subject(request, progress), request.quant, progress)

    def float_result(
        self,
        request: CompareRequest,
        sample: ImageSample,
        target: int | None,
        preprocessing: Preprocessing,
        progress: Progress = no_progress,
    ) -> CamResult:
        """Return the float model's result alone, explaining class ``target`` or, for None, its own top-1.

        The picture is cropped by ``preprocessing``, so that maps of several weights are of the same pixels. The
        request's protocol applies to the float model and its map.

        Raises:
            as ``compare``.
        """
        job = self._job(request, sample, progress)
        crop = images.crop(sample.rgb, preprocessing)
        subject = replace(job.subject, ref=replace(job.subject.ref, preprocessing=preprocessing))
        job = replace(job, subject=subject, preprocessing=preprocessing, crop=crop)
        job = self._with_backend(job)
        return self._finished(job, self._result(job, None, target))

    def models(
        self, request: CompareRequest, sample: ImageSample, progress: Progress = no_progress
    ) -> tuple[Locked[nn.Module], Locked[nn.Module], Tensor]:
        """Return the float model, its quantized copy, and the picture as their input (1, 3, H, W).

        Under a protocol with deviations they are as after this one picture: observers have seen it, and dropout draws
        what it drew then.

        Raises:
            as ``compare``.
        """
        job = self._job(request, sample, progress)
        image = input_of(job)
        return *self.protocols.after_picture(job.subject, request.quant, sample, image, progress), image

    def subject(self, request: CompareRequest, progress: Progress = no_progress) -> Subject:
        """Return the model, weights, layer and calibration images of a request.

        Raises:
            as ``compare``.
        """
        spec = networks.spec(request.model)
        located = networks.resolve(spec, request.weights, progress=progress)
        ref = replace(located.ref, names=request.names or spec.class_names)
        if not ref.sha256:  # untrained weights are known by their digest, which takes drawing them
            ref = replace(self.networks.load(spec, located, progress).ref, names=ref.names)
        layer = request.cam.layer or spec.layer
        if layer != spec.layer:
            from quantviz.networks.build import check_layer

            check_layer(spec, layer)
        return Subject(spec, located, ref, layer, calibration_set(request.calibration))

    def network(
        self, subject: Subject, variant: Variant, cam: CamSpec, progress: Progress
    ) -> tuple[Locked[nn.Module], CamSpec]:
        """Return the network of a variant, shared unless it has observers, and ``cam`` at its target layer.

        Raises:
            QuantvizError: as ``Backends.deployed`` and ``ProtocolNetworks.quantized``.
        """
        if not variant.deployed:
            return self.protocols.quantized(subject, variant.quant, progress), cam
        split = self.backends.deployed(subject, variant.quant, progress)
        return split, replace(cam, layer=parted_layer(split))

    def _job(self, request: CompareRequest, sample: ImageSample, progress: Progress) -> Job:
        subject = subject_of(self.subject(request, progress), request.quant)
        preprocessing = subject.ref.preprocessing.at(request.crop)
        return Job(
            subject=subject,
            request=replace(request, target=target_of(request.target, request.quant)),
            cam=replace(request.cam, layer=subject.layer),
            sample=sample,
            preprocessing=preprocessing,
            crop=self._crop(sample, preprocessing),
            saliency=saliency_source(request.saliency, request.saliency_name),
            progress=progress,
        )

    def _crop(self, sample: ImageSample, preprocessing: Preprocessing) -> RGB:
        """Return the pixels of a picture that the networks see, read-only; the last few crops stay in memory."""

        def make() -> RGB:
            crop = images.crop(sample.rgb, preprocessing)
            crop.setflags(write=False)
            return crop

        return self._crops.get((sample.id, preprocessing), make)

    def _loaded_job(self, job: Job) -> Job:
        subject, target = job.subject, job.request.target
        ref = self.networks.load(subject.spec, subject.located, job.progress).ref
        if not isinstance(target, str) and not 0 <= target < ref.classes:
            last = ref.classes - 1
            raise UsageError(f"Class {target} does not exist; {subject.spec.name} has classes 0 to {last} here.")
        ref = replace(subject.ref, classes=ref.classes, note=ref.note, names=subject.ref.names or ref.names)
        return replace(job, subject=replace(subject, ref=ref))

    def _with_backend(self, job: Job) -> Job:
        """Return the job with a backend that can run it, and a note where that is not the requested one."""
        if job.request.backend == "torch":
            return job
        if job.request.quant.deviations:
            return replace(job, backend_note=_PROTOCOL_IN_TORCH)
        reason = self.backends.prepare(job.subject, QuantSpec(), job.progress, job.request.backend)
        if reason:
            return replace(job, backend_note=f"{reason} The float map is computed in torch.")
        return replace(job, backend=job.request.backend)

    def _with_simulation(self, job: Job) -> Job:
        """Return the job with the simulated network on the float one's backend, and a note where that cannot run it."""
        if job.backend != "onnxruntime":
            return job
        reason = self.backends.cannot_simulate(job.subject, job.request.quant, job.progress)
        if reason:
            return replace(job, backend_note=f"{reason} The quantized map is computed in torch.")
        return replace(job, quantized_backend=job.backend)

    def _computed(self, job: Job, salient: Heatmap | None) -> StoredRecord:
        """Compute a comparison and return its record."""
        job = self._with_simulation(self._with_backend(job))
        target = None if isinstance(job.request.target, str) else job.request.target
        reference, quantized = self._both(job, target)
        if job.request.target == "float":
            target = reference.class_index
        first, second = self._finished(job, reference), self._finished(job, quantized)
        loaded: dict[str, Any] = {"classes": job.subject.ref.classes, "note": job.subject.ref.note}
        packed = pack_comparison(first, second, salient, pair_scores(first, second, salient), loaded)
        backend = {
            "backend": job.backend,
            "quantized_backend": job.quantized_backend,
            "backend_note": job.backend_note,
        }
        packed = StoredRecord(packed.arrays, {**packed.metadata, **backend})
        if not job.request.deployed:
            return packed
        return with_deployed(packed, self._deployed(job, target, first, second, salient))

    def _deployed(
        self, job: Job, target: int | None, reference: CamResult, quantized: CamResult, salient: Heatmap | None
    ) -> Deployed:
        """Return the deployed network's result, with its scores and the milliseconds of a map by each path."""
        deployed = Variant(job.request.quant, deployed=True)
        result = self._explained(job, deployed, target)
        others = {"quantized": quantized.heatmap, "float": reference.heatmap}
        others |= {"saliency": salient} if salient is not None else {}
        agreement = {
            f"deployed_v_{name}": scores.compare(result.heatmap.values, other.values) for name, other in others.items()
        }
        taken: dict[str, float] = {}
        if job.cam.method not in MANY_PASSES:
            job.progress("Timing the three networks", None, Phase.TIMING)
            paths = {"float": None, "quantized": Variant(job.request.quant), "deployed": deployed}
            timed = {name: self._network(job, variant) for name, variant in paths.items()}
            taken = milliseconds(timed, input_of(job), result.class_index)
        return Deployed(result, agreement, taken, self.backends.raised_channels(job.subject, job.request.quant))

    def _finished(self, job: Job, result: CamResult) -> CamResult:
        height, width = job.sample.rgb.shape[:2]
        return finished(result, job.request.quant, (height, width))

    def _both(self, job: Job, target: int | None) -> tuple[CamResult, CamResult]:
        """Return the float and the simulated network's result, made at the same time where neither changes by a pass.

        The float network's class is then not known yet; the simulated one explains its own, mostly the same, and again
        where it is another one.
        """
        variant, of_float = Variant(job.request.quant), job.request.target == "float"
        stored = self.store.get(self._result_key(job, None, target))
        if stored is not None or job.request.quant.deviations or cores() < 2:
            reference = unpack_result(stored) if stored is not None else self._result(job, None, target)
            return reference, self._result(job, variant, reference.class_index if of_float else target)
        for one in (None, variant):  # they are made of the same modules
            self._network(job, one)
        from quantviz.networks.build import labels

        # A command's main thread reads the names in one module; another thread would import all of torchvision.
        _ = job.subject.ref.names or labels(job.subject.ref.classes)
        reference, quantized = together(
            lambda told: self._result(replace(job, progress=told), None, target),
            lambda told: self._result(replace(job, progress=told), variant, target),
            job.progress,
        )
        if not of_float:
            return reference, quantized
        if quantized.class_index != reference.class_index:
            return reference, self._result(job, variant, reference.class_index)
        self.store.put_later(self._result_key(job, variant, reference.class_index), pack_result(quantized))
        return reference, quantized

    def _result(self, job: Job, variant: Variant | None, target: int | None) -> CamResult:
        """Return the result of the float network (``variant`` None) or a simulated one; the store may have it."""
        key = self._result_key(job, variant, target)
        record = self.store.get(key)
        if record is not None:
            return unpack_result(record)
        result = self._explained(job, variant, target)
        self.store.put_later(key, pack_result(result))
        return result

    def _result_key(self, job: Job, variant: Variant | None, target: int | None) -> str:
        decides: dict[str, Any] = {"image": job.sample.id, "cam": job.cam, "target": target, "quantization": None}
        decides |= job.placed()
        if variant is not None:
            decides["quantization"] = network_quant(variant.quant)
            decides["calibration"] = job.subject.calibration.ref.sha256
            if job.quantized_backend != "torch":
                versions_of = backend_versions(job.quantized_backend)
                decides["backend"] = [job.quantized_backend, versions_of, SIMULATION_VERSION]
        elif "train_mode" in job.request.quant.deviations:
            decides["mode"] = "train"
        elif job.backend != "torch":
            decides["backend"] = [job.backend, backend_versions(job.backend)]
        return job.subject.key("map", **decides)

    def _explained(self, job: Job, variant: Variant | None, target: int | None) -> CamResult:
        network, cam = self._network(job, variant)
        seed = seed_of(job.sample.id, quantized=variant is not None)
        features = self.protocols.kept_features(job.request.quant, quantized=variant is not None)
        name = "float" if variant is None else variant.name
        return explained(network, input_of(job), cam, target, seed, job.progress, name, features, job.subject.ref.names)

    def _network(self, job: Job, variant: Variant | None) -> tuple[Locked[nn.Module], CamSpec]:
        """Return the float network of a job (``variant`` None) or a variant's, and the CAM at its target layer."""
        if variant is not None and (variant.deployed or job.quantized_backend == "torch"):
            return self.network(job.subject, variant, job.cam, job.progress)
        if variant is not None:
            split = self.backends.simulated(job.subject, variant.quant, job.progress)
            return split, replace(job.cam, layer=parted_layer(split))
        if job.backend == "torch":
            return self.protocols.reference(job.subject, job.request.quant, job.progress), job.cam
        split = self.backends.reference(job.subject, job.progress, job.backend)
        return split, replace(job.cam, layer=parted_layer(split))
