import Foundation
import JSONValues
import Testing

private let environment = ProcessInfo.processInfo.environment
private let sampleModel = environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// The first of some programs that this machine has.
private func program(_ names: String...) -> String? {
  let folders = (environment["PATH"] ?? "").split(separator: ":")
  return names.lazy.flatMap { name in folders.map { "\($0)/\(name)" } }
    .first { FileManager.default.isExecutableFile(atPath: $0) }
}

/// What others see of a run: TensorBoard itself, and a browser.
@Suite(
  .serialized, .enabled(if: swiftletPath != nil, "the program was not built beside the tests"),
  .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct WatchedRunTests {
  /// A script of `Tests/Comparison`.
  private func script(_ name: String, _ file: StaticString = #filePath) -> String {
    URL(fileURLWithPath: "\(file)").deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Comparison/\(name)").path
  }

  /// A run in two parts, with evaluations, answers, and a name and a path that are long.
  private func makeRun(in folder: String) throws -> String {
    let data = folder + "/" + String(repeating: "conversations-of-many-people-", count: 4) + ".jsonl"
    let chats = (0..<40).map { index in
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Say the number \(index).\"}, "
        + "{\"role\": \"assistant\", \"content\": \"Chirp! \(String(repeating: "\(index), ", count: index % 9 + 1))\"}]}\n"
    }
    try chats.joined().write(toFile: data, atomically: true, encoding: .utf8)
    let run = folder + "/" + String(repeating: "a-run-of-many-words-", count: 4)
    func part(_ words: [String]) throws {
      let result = try swiftlet(
        [
          "tune", sampleModel, "--data", data, "--eval-share", "0.1", "--output", run, "--max-steps", "30",
          "--batch-size", "1", "--gradient-accumulation", "1", "--lora-rank", "4", "--lr", "1e-3", "--eval-steps", "6",
          "--save-steps", "6", "--sample-prompt", "Say the number 5 <b>&amp; more</b>.", "--sample-tokens", "12",
          "--sample-prompt", String(repeating: "unbreakable", count: 20), "--quiet",
        ] + words)
      #expect(result.status == 0, "\(result.errors)")
    }
    try part(["--max-time", "2s"])
    try part(["--resume"])
    return run
  }

  /// `.ci/run` fetches TensorBoard; every number of `metrics.jsonl` and every answer is what it reads.
  @Test(
    .enabled(
      if: environment["SWIFTLET_TENSORBOARD"] != nil,
      "SWIFTLET_TENSORBOARD is not set, a folder into which pip has put tensorboard; .ci/run sets it"))
  func tensorBoardOpensARun() throws {
    try withTemporaryFolder { folder in
      let run = try makeRun(in: folder)
      let packages = try #require(environment["SWIFTLET_TENSORBOARD"])
      let seen = try shell("PYTHONPATH='\(packages)' python3 '\(script("tensorboard_opened.py"))' '\(run)'")
      #expect(seen.status == 0 && seen.output.contains("scalars and 12 answers"), "\(seen.output)\(seen.errors)")
    }
  }

  /// At two widths, in light and in dark: nothing is wider than the window, cut off, or on top of something else.
  @Test(.enabled(if: program("chromium", "chromium-browser", "google-chrome") != nil, "there is no Chromium here"))
  func aBrowserShowsTheReport() throws {
    try withTemporaryFolder { folder in
      let run = try makeRun(in: folder)
      let looked = try shell("'\(script("page_looked_at.sh"))' '\(run)/report.html' '\(folder)/pictures'")
      #expect(looked.status == 0, "\(looked.output)\(looked.errors)")
      #expect(looked.output.split(separator: "\n").count == 4, "\(looked.output)\(looked.errors)")
      let compared = folder + "/compared.html"
      #expect(try swiftlet(["runs", folder, "--html", compared]).status == 0)
      let page = try shell("'\(script("page_looked_at.sh"))' '\(compared)' '\(folder)/pictures'")
      #expect(page.status == 0, "\(page.output)\(page.errors)")
    }
  }
}
