"""From trained weights to artifacts that plain transformers loads, and to the Hub.

On disk: `save` (final/, adapter/), `card` and its template.
Proof: `parity`, which runs `fresh_process` by itself.
What is published: `bundle` with `copying`, `adapter_bundle`, `examples`; `public_report` chooses what may leave,
`clean` looks once more; `licences`, `results` (model-index, .eval_results).
The Hub: `hub` is the flow; `hub_options`, `hub_repository`, `hub_commit`, `hub_retries`, `hub_faults`, `hub_proof`,
`space`.
"""
