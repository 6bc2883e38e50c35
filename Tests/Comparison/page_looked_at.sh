#!/bin/sh
# Looks at a page in headless Chromium at two widths, in light and in dark: writes a picture of each into a folder, and says
# where the page is wider than the window, or a text runs out of its picture, or texts of an axis lie on one another. Exits 1
# where that is so. Usage: page_looked_at.sh PAGE.html FOLDER
set -eu
page=$1
folder=$2
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
mkdir -p "$folder"
probe=$folder/probe.html
profile=$(mktemp -d)
frame=$folder/frame.html
trap 'rm -rf "$profile" "$probe" "$frame"' EXIT
# What Chromium calls a window has its own bars, 143 high, which no picture shows.
# The page runs no scripts; a copy of it gets one that measures. It is shown in a frame, as no window is narrower than 500.
cat "$page" - > "$probe" <<'SCRIPT'
<script>
const problems = [];
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width)
  problems.push("the page is " + document.documentElement.scrollWidth + " wide in a window of " + width);
for (const svg of document.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  for (const [name, text] of texts)
    if (text.left < box.left - 1 || text.right > box.right + 1 || text.top < box.top - 1 || text.bottom > box.bottom + 1)
      problems.push("'" + name + "' runs out of '" + svg.getAttribute("aria-label") + "'");
  texts.forEach(([name, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
      problems.push("'" + name + "' lies on '" + other + "' in '" + svg.getAttribute("aria-label") + "'");
  }));
}
for (const element of document.querySelectorAll("td, th, figcaption, .tile, .columns span, p")) {
  if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
    problems.push("'" + element.textContent.slice(0, 40) + "' is cut off");
}
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
parent.postMessage("LOOKED " + width + " " + document.documentElement.scrollHeight + " " + dark + " " + JSON.stringify(problems), "*");
</script>
SCRIPT
show() { # PAGE WIDTH HEIGHT OPTION...
  cat > "$frame" <<FRAME
<!DOCTYPE html><meta name="color-scheme" content="light dark"><style>body { margin: 0 } iframe { border: 0; display: block }</style>
<script>onmessage = event => document.title = event.data</script>
<iframe src="file://$(realpath "$1")" width="$2" height="$3"></iframe>
FRAME
  height=$3
  shift 3
  "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --blink-settings=preferredColorScheme="$scheme" --window-size="$width,$((height + 150))" --virtual-time-budget=3000 "$@" \
    "file://$(realpath "$frame")" 2>/dev/null
}
status=0
for width in 420 1280; do
  for mode in light dark; do
    scheme=1
    [ "$mode" = dark ] && scheme=0
    seen=$(show "$probe" $width 1000 --dump-dom | sed -n 's/.*<title>LOOKED \(.*\)<\/title>.*/\1/p' | head -n 1)
    [ -n "$seen" ] || { echo "page_looked_at: Chromium showed nothing of $page" >&2; exit 1; }
    show "$page" $width "$(echo "$seen" | cut -d' ' -f2)" --screenshot="$folder/$width-$mode.png" >/dev/null
    echo "$mode, width, height, dark, problems: $seen"
    [ "${seen#* * * }" = "[]" ] || status=1
  done
done
exit $status
