"""What was measured, as a table and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS = "multimodal"
QUIET = 0.9  # of a core


def machine_line(found: dict[str, Any]) -> str:
    hardware = found["hardware"]
    flags = hardware["flags"]
    amx = "" if "amx_tile" in flags else ", no AMX"
    return (
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB ({' '.join(flags)}{amx})"
    )


def show(found: dict[str, Any]) -> None:
    """The table of a benchmark."""
    for line in lines(found):
        print(line)


def lines(found: dict[str, Any]) -> list[str]:
    """As Markdown, so that it can be copied where it is told."""
    unit, table = found["unit"], found["summary"]
    references = list(dict.fromkeys(other for one in table.values() for other in one["ratios"]))
    heads = ["", f"{unit}/s", f"{unit} a core second", *(f"by {name}" for name in references)]
    heads += ["least centred cosine", "largest difference", "peak memory, MB", "share of GEMM peak"]
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    rate = "a core second" if found["rates by"] == "core_s" else "a second"
    for name, one in sorted(table.items(), key=lambda pair: pair[1][rate]):
        like = one.get("likeness")
        rows.append([name, f"{one['a second']:.1f}", f"{one['a core second']:.1f}"])
        rows[-1] += [_times(one["ratios"].get(other)) for other in references]
        rows[-1] += ["", ""] if like is None else [
            f"{like['least centred cosine']:.5f}", f"{like['largest difference']:.1e}"
        ]  # fmt: skip
        rows[-1] += [f"{one['peak_mb']:,.0f}", f"{100 * one['share of peak']:.0f} % of {one['precision']}"]
    cores = found["cores"]
    above = [
        f"{found['benchmark']}: {found['n']:,} {unit} in {found['rounds in all']} rounds, of which "
        f"{len(found['rounds'])} are done; medians; {cores} core{'s' * (cores > 1)}",
        machine_line(found),
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        "",
    ]
    peaks = "; ".join(f"{kind} {value:,.0f}" for kind, value in _peaks(found).items())
    rates = "; ".join(f"{name} {value:,.1f}" for name, value in found["roofline"].items())
    below = ["", f"GEMM peak of the same run, GFLOP/s: {peaks}. The model takes {found['gflop each']:.2f} GFLOP each, "
                 f"so no more than: {rates}."]  # fmt: skip
    share = found["of a core, while it worked"]
    if cores == 1 and share < QUIET:
        below += [
            f"The machine was shared: a competitor had {share:.2f} of its core. What was computed in a second of the "
            "core is what to compare."
        ]
    left_out = [
        f"Left out: {name}, {package} is not installed." for name, package in found["left out"].items()
    ]
    return [*above, *(f"| {' | '.join(row)} |" for row in rows), *below, *left_out]


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def _peaks(found: dict[str, Any]) -> dict[str, float]:
    import statistics

    runs = found["gemm gflop/s"]
    return {kind: statistics.median(one[kind] for one in runs) for kind in runs[0]}


def draw(found: dict[str, Any], path: Path) -> None:
    """Bars of the rates, the fastest on top; what the machine's peak allows as lines. Nothing without matplotlib."""
    rate = "a core second" if found["rates by"] == "core_s" else "a second"
    bars = {name: one[rate] for name, one in sorted(found["summary"].items(), key=lambda pair: pair[1][rate])}
    label = f"{found['unit']} {rate}, {found['cores']} core{'s' * (found['cores'] > 1)}"
    draw_bars(bars, label, path,
              marks=found["roofline"])  # fmt: skip


def draw_bars(
    bars: dict[str, float],
    label: str,
    path: Path,
    *,
    marks: dict[str, float] | None = None,
    log: bool = False,
) -> None:
    """One bar for each name, ours in another colour; marks: dotted lines."""
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
