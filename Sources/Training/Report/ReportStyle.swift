/// What pages look like: one column on a telephone, two on a screen; light or dark as the reader's system is.
enum ReportStyle {
  static let css = """
    :root { --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #5d6773; --rule: #dfe3e8;
      --c0: #2563c9; --c1: #d1490c; --c2: #16805a; --c3: #8a3fb5; --c4: #b3860a; --c5: #c22a63; --mark: #e7effb; }
    @media (prefers-color-scheme: dark) {
      :root { --page: #14171b; --card: #1d2126; --ink: #e6e9ed; --soft: #9aa5b1; --rule: #343a42;
        --c0: #6ea2f5; --c1: #f58a4d; --c2: #4fc697; --c3: #c48bec; --c4: #e3bb4a; --c5: #f0709f; --mark: #253349; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--page); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
    main { max-width: 1240px; margin: 0 auto; padding: 20px 16px 48px; }
    h1 { font-size: 24px; margin: 4px 0 2px; overflow-wrap: anywhere; }
    h2 { font-size: 17px; margin: 32px 0 10px; }
    p { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 18px 0; }
    .tile, figure, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
    .tile { padding: 10px 14px; }
    .tile b { display: block; font-size: 19px; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
    .tile span { color: var(--soft); font-size: 13px; }
    .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 14px; }
    figure { margin: 0; padding: 12px 12px 6px; }
    figcaption { font-weight: 600; display: flex; flex-wrap: wrap; justify-content: space-between; gap: 4px 12px; }
    .legend { font-weight: 400; font-size: 13px; }
    .key { margin-left: 12px; white-space: nowrap; }
    .key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 5px;
      vertical-align: middle; background: currentColor; border-radius: 2px; }
    svg { display: block; width: 100%; height: auto; }
    .grid { stroke: var(--rule); stroke-width: 1; }
    .tick { fill: var(--soft); font-size: 12px; }
    .line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
    .mark { fill: currentColor; }
    .bar { fill: var(--c0); }
    .c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
    .c4 { color: var(--c4); } .c5 { color: var(--c5); }
    .faint { opacity: 0.35; stroke-width: 1.2; }
    .card { padding: 4px 14px; overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
    td, th { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
    tr:last-child td { border-bottom: 0; }
    th { color: var(--soft); font-weight: 500; white-space: nowrap; }
    td.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 220px; }
    .columns { columns: 2 340px; column-gap: 28px; }
    .columns div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0;
      border-bottom: 1px solid var(--rule); break-inside: avoid; }
    .columns span:first-child { color: var(--soft); white-space: nowrap; }
    .columns span:last-child { text-align: right; overflow-wrap: anywhere; }
    .key.faint { opacity: 0.7; }
    @media (max-width: 600px) { .tick { font-size: 16px; } }
    .warning { background: var(--mark); border-radius: 8px; padding: 6px 12px; margin: 8px 0; color: var(--ink); }
    """

  /// A whole page that needs nothing but itself.
  static func page(title: String, body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>\(escapedHTML(title))</title>
    <style>
    \(css)
    </style>
    </head>
    <body>
    <main>
    \(body)</main>
    </body>
    </html>

    """
  }
}
