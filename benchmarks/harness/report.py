"""Tables and plots of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS = "multimodal"
QUIET = 0.9  # share of a core above which the machine counts as unloaded


def machine_line(result: dict[str, Any]) -> str:
    hardware = result["hardware"]
    flags = hardware["flags"]
    amx = "" if "amx_tile" in flags else ", no AMX"
    return (
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB ({' '.join(flags)}{amx})"
    )


def show(result: dict[str, Any]) -> None:
    """Prints the table of a benchmark."""
    for line in lines(result):
        print(line)


def lines(result: dict[str, Any]) -> list[str]:
    """The result as lines of Markdown."""
    unit, table = result["unit"], result["summary"]
    references = list(dict.fromkeys(other for figures in table.values() for other in figures["ratios"]))
    heads = ["", f"{unit}/s", f"{unit} per core second", *(f"vs {name}" for name in references)]
    heads += ["lowest centred cosine", "largest difference", "peak memory, MB", "share of GEMM peak"]
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    rate = "a core second" if result["rates by"] == "core_s" else "a second"
    for name, figures in sorted(table.items(), key=lambda pair: pair[1][rate]):
        similarity = figures.get("likeness")
        rows.append([name, f"{figures['a second']:.1f}", f"{figures['a core second']:.1f}"])
        rows[-1] += [_times(figures["ratios"].get(other)) for other in references]
        rows[-1] += ["", ""] if similarity is None else [
            f"{similarity['least centred cosine']:.5f}", f"{similarity['largest difference']:.1e}"
        ]  # fmt: skip
        rows[-1] += [
            f"{figures['peak_mb']:,.0f}",
            f"{100 * figures['share of peak']:.0f} % of {figures['precision']}",
        ]
    cores = result["cores"]
    above = [
        f"{result['benchmark']}: {result['n']:,} {unit} in {result['rounds in all']} rounds, of which "
        f"{len(result['rounds'])} are done; medians; {cores} core{'s' * (cores > 1)}",
        machine_line(result),
        ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "",
    ]
    peaks = "; ".join(f"{kind} {value:,.0f}" for kind, value in _peaks(result).items())
    rates = "; ".join(f"{name} {value:,.1f}" for name, value in result["roofline"].items())
    below = ["", f"GEMM peak of the same run, GFLOP/s: {peaks}. The model takes {result['gflop each']:.2f} GFLOP each, "
                 f"so no more than: {rates}."]  # fmt: skip
    share = result["of a core, while it worked"]
    if cores == 1 and share < QUIET:
        below += [
            f"The machine was loaded: competitors had {share:.2f} of their core. Compare the rates per core second."
        ]
    left_out = [
        f"Left out: {name}, {package} is not installed." for name, package in result["left out"].items()
    ]
    return [*above, *(f"| {' | '.join(row)} |" for row in rows), *below, *left_out]


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def _peaks(result: dict[str, Any]) -> dict[str, float]:
    import statistics

    runs = result["gemm gflop/s"]
    return {kind: statistics.median(run[kind] for run in runs) for kind in runs[0]}


def draw(result: dict[str, Any], path: Path) -> None:
    """Plots the rates as bars, with the limits by the machine's peak as lines. Does nothing without matplotlib."""
    rate = "a core second" if result["rates by"] == "core_s" else "a second"
    bars = {
        name: figures[rate]
        for name, figures in sorted(result["summary"].items(), key=lambda pair: pair[1][rate])
    }
    label = f"{result['unit']} {rate.replace('a ', 'per ', 1)}, {result['cores']} core{'s' * (result['cores'] > 1)}"
    draw_bars(bars, label, path,
              marks=result["roofline"])  # fmt: skip


def draw_bars(
    bars: dict[str, float],
    label: str,
    path: Path,
    *,
    marks: dict[str, float] | None = None,
    log: bool = False,
) -> None:
    """Plots a bar for each name, those of multimodal in another colour. marks: dotted lines."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.38 * len(bars)), layout="constrained")
    colours = ["tab:blue" if name.startswith(OURS) else "tab:gray" for name in bars]
    drawn = axes.barh(list(bars), list(bars.values()), color=colours)
    axes.bar_label(drawn, fmt="{:,.4g}", padding=3)
    for name, value in (marks or {}).items():
        axes.axvline(value, color="tab:red", linestyle=":", linewidth=1)
        axes.text(
            value, -0.6, f"{name.split(',')[0]} peak ", color="tab:red", fontsize=7, ha="right", va="bottom"
        )
    axes.set(xlabel=label, xscale="log" if log else "linear")
    axes.margins(x=0.15)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
