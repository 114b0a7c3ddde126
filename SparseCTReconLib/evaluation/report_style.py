"""The style sheet of the report: readable on a screen in light and in dark, and on paper."""

CSS = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#17202a;--faint:#5c6b7a;--rule:#dfe4ea;--accent:#0b6bcb;--best:#0a7d43;
--warn:#8a4b00;--warn-paper:#fff4e2;--s0:#17202a;--s1:#0b6bcb;--s2:#d9480f;--s3:#0a7d43;--s4:#a3268f;--s5:#a67c00;--s6:#0e7c86}
@media(prefers-color-scheme:dark){:root{--paper:#0f1419;--card:#171d24;--ink:#e8edf2;--faint:#98a6b5;--rule:#2a333d;--accent:#5aa9ff;
--best:#4cc38a;--warn:#ffc46b;--warn-paper:#2c2210;--s0:#e8edf2;--s1:#5aa9ff;--s2:#ff8a4c;--s3:#4cc38a;--s4:#e27fd0;--s5:#e5c04a;
--s6:#4fc4cf}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:27px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:19px;margin:0 0 4px}
h3{font-size:15px;margin:18px 0 6px}
p{margin:6px 0}
.sub,.note{color:var(--faint)}
.note{font-size:13px}
.badge{display:inline-block;margin:12px 0 0;padding:4px 12px;border-radius:99px;background:var(--warn-paper);color:var(--warn);
font-size:13px;font-weight:600}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:20px 22px;margin-top:20px}
.warnings{background:var(--warn-paper);border-color:transparent}
.warnings li{margin:3px 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px;margin-top:10px}
th,td{padding:6px 12px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--faint);font-weight:600;vertical-align:bottom}
th:first-child,td:first-child,.text{text-align:left}
tbody th{color:var(--ink)}
tbody th[rowspan]{vertical-align:top}
th[colspan]{text-align:center}
tbody tr:last-child>*{border-bottom:0}
.group>*{border-top:2px solid var(--rule)}
.best{color:var(--best);font-weight:700}
.unit{font-weight:400;display:block;font-size:12px}
.swatch,.floor-key{display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:7px;vertical-align:-1px;background:var(--c)}
.floor-key{width:4px;height:14px;border-radius:1px;background:var(--faint);vertical-align:-2px}
.key{margin-right:18px;white-space:nowrap}
.legend{font-size:13px;color:var(--faint)}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}
.plot{width:100%;height:auto;display:block;margin-top:8px}
.plot text{fill:var(--faint);font-size:11px}
.plot .label{fill:var(--ink);font-size:11.5px}
.plot .grid{stroke:var(--rule);stroke-width:1}
.plot .rail{stroke:var(--rule);stroke-width:1;stroke-dasharray:2 3}
.plot .dot{fill:var(--c);stroke:var(--card);stroke-width:1.5}
.plot .line{fill:none;stroke:var(--c);stroke-width:1.5;stroke-linejoin:round}
.plot .s0.line{stroke-width:2.2}
.plot .floor{fill:var(--faint)}
.pictures{display:grid;gap:6px;overflow-x:auto;margin-top:12px}
.pictures figure{margin:0;min-width:0}
.pictures img{display:block;width:100%;height:auto;background:#000;border-radius:4px}
.pictures .head{font-weight:600;font-size:14px;overflow-wrap:anywhere}
.pictures .head small{display:block;color:var(--faint);font-weight:400}
.empty{align-self:center;color:var(--faint);font-size:13px;padding:8px}
.scale{height:10px;border-radius:5px;margin:8px 0 2px;
background:linear-gradient(90deg,#d4e8f7,#2b8cd8 16.7%,#000 50%,#e06c1f 83.3%,#f7e2d2)}
.ends{display:flex;justify-content:space-between;color:var(--faint);font-size:12px}
.tab{position:absolute;opacity:0}
.tabs label{display:inline-block;padding:4px 14px;margin:10px 6px 0 0;border:1px solid var(--rule);border-radius:99px;font-size:13px;
cursor:pointer;color:var(--faint)}
.pane{display:none}
#w0:checked~.panes .p0,#w1:checked~.panes .p1,#w2:checked~.panes .p2{display:grid}
#w0:checked~.tabs .t0,
#w1:checked~.tabs .t1,
#w2:checked~.tabs .t2{background:var(--accent);border-color:var(--accent);color:var(--card)}
.tab:focus-visible~.tabs{outline:2px solid var(--accent);outline-offset:4px;border-radius:8px}
details{margin-top:12px}
summary{cursor:pointer;color:var(--accent);font-size:14px}
dl{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:3px 18px;margin:8px 0 0;font-size:14px}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
.cut{color:var(--warn);font-size:12px;margin-left:6px}
@media print{body{background:#fff}section{break-inside:avoid;border-color:#ccc}details>*{display:block}}
"""
