import Glibc
import ModelFiles
import TestSupport
import Testing
import Tokenization

@testable import Doctor

/// A folder with `phi4/original`, `phi4/fixed` and `tokenizers/…`: files of real models, which are not ours to ship.
private let data = getenv("SWIFTLET_TOKENIZER_DATA").map { String(cString: $0) }

@Suite(.enabled(if: data != nil, "SWIFTLET_TOKENIZER_DATA names no folder with files of real models"))
struct SharedDataTests {
  private func findings(_ name: String) throws -> [Finding] {
    try Examination(of: (data ?? "") + "/" + name).findings
  }

  @Test func phi4() throws {
    #expect(
      try findings("phi4/original").map(\.id)
        == ["template-opens-turn-unasked", "eos-not-end-of-turn", "pad-is-eos", "ids-disagree"])
    #expect(try defects(findings("phi4/fixed")).isEmpty)
    let folder = try TemporaryFolder()
    try Examination(of: (data ?? "") + "/phi4/original").repair(into: folder.path)
    #expect(try Examination(of: folder.path).findings.isEmpty)
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.eosTokenID == 100265 && tokenizer.padTokenID == 100351 && tokenizer.unkTokenID == 5809)
    let config = try readJSON(folder.path + "/config.json")
    #expect(config["eos_token_id"]?.integer == 100265 && config["pad_token_id"]?.integer == 100351)
  }

  /// Healthy models: nothing breaks, and what is said is true.
  @Test(arguments: [
    ("llama2", ["pad-missing"]), ("phi-3-mini", ["pad-is-eos"]), ("smollm2", ["pad-is-eos", "ids-disagree"]),
    ("smollm3", ["pad-is-eos"]), ("qwen2.5", []), ("qwen3", []),
  ])
  func healthy(name: String, remarks: [String]) throws {
    #expect(try defects(findings("tokenizers/" + name)) == remarks)
    let found = try findings("tokenizers/" + name)
    #expect(!found.contains { $0.severity == .error })
  }
}
