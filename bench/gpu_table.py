#!/usr/bin/env python3
"""JSON lines of bench/run_gpu.sh as one Markdown table: gpu_table.py LINES COMMAND DEVICE

Ratios are PyTorch's median over ours within each pair; the table shows their median and the worst. phi is the share of the matrix
product measured in the same run that the operations of the step would need. A cell that was not measured says so.
"""
import collections
import json
import statistics
import sys
import time

path, command, device = sys.argv[1:4]
rows = [json.loads(line) for line in open(path) if line.startswith("{")]
floor = {r["precision"]: max(f["TFLOP_s"] for f in rows if f["workload"] == "matmul" and f["engine"] == "retort" and f["precision"] == r["precision"])
         for r in rows if r["workload"] == "matmul" and r["engine"] == "retort"}
copies = [r["GB_s"] for r in rows if r["workload"] == "copy" and r["engine"] == "retort"]
cases = collections.OrderedDict()
for r in rows:
    if "pair" not in r:
        continue
    key = f"step {r['arch']} {r['size']} px, batch {r['batch']}, {r['nets']} network(s)" if r["workload"] == "step" else f"{r['workload']}, IPC {r['ipc']}"
    side = "ours" if r["engine"] == "retort" else r["engine"].split()[-1]
    cases.setdefault(key, collections.defaultdict(dict))[side][r["pair"]] = r


def ratio(case, side):
    pairs = [case[side][p]["median_ms"] / case["ours"][p]["median_ms"] for p in case["ours"] if p in case[side]]
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f})" if pairs else "not measured"


print(f"# {device}\n\n{time.strftime('%Y-%m-%d')}, `{command}`, {max((r['pair'] for r in rows if 'pair' in r), default=0)} pairs. "
      f"PyTorch: {next((' '.join(r['engine'].split()[:2]) for r in rows if r['engine'].startswith('torch')), 'not measured')}.\n")
print("Floor, ours: " + ", ".join(f"{k} product {v:.1f} TFLOP/s" for k, v in floor.items()) +
      (f", copy {max(copies):.0f} GB/s (lowest {min(copies):.0f})" if copies else "") + ".\n")
print("| workload | ours, ms | precision | images or iterations /s | vs tuned (worst pair) | vs eager (worst pair) | phi | cold, s | peak, MB |")
print("|---|---|---|---|---|---|---|---|---|")
for key, case in cases.items():
    ours = list(case["ours"].values())
    if not ours:
        print(f"| {key} | not measured |" + " |" * 7)
        continue
    ms = statistics.median(r["median_ms"] for r in ours)
    r = ours[0]
    top = floor.get(r["precision"])
    phi = f"{r['gflop'] / ms / top:.2f}" if "gflop" in r and top else "-"
    print(f"| {key} | {ms:.3f} | {r['precision']} | {statistics.median(o.get('img_s', o.get('it_s', 0)) for o in ours):.0f} | "
          f"{ratio(case, 'tuned')} | {ratio(case, 'eager')} | {phi} | {r['cold_s']:.1f} | {max(o['peak_mb'] for o in ours):.0f} |")
others = [r for r in rows if "pair" not in r and r["workload"] not in ("copy", "matmul")]
if others:
    print("\nOn the host's cores:\n")
    for r in others:
        print(f"- {json.dumps(r)}")
