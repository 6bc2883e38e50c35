import Foundation
import JSONValues
import TestSupport
import Testing

@testable import SwiftletCLI

/// Models of the hub as a user names them, from a hub on this machine.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct HubCommandTests {
  private let home: TemporaryFolder
  private let hub: LocalHub

  init() throws {
    home = try TemporaryFolder()
    hub = try LocalHub()
    let model = try TemporaryFolder()
    try TinyModel(changing: ["vocab_size": 272, "eos_token_id": 2, "bos_token_id": 0]).write(to: model)
    try TinyTokenizer.write(to: model)
    for name in try FileManager.default.contentsOfDirectory(atPath: model.path) {
      hub.add(name, TemporaryFolder.bytes(of: "\(model.path)/\(name)") ?? [])
    }
    hub.add("onnx/model.onnx", [1, 2, 3])
  }

  private func swiftlet(_ line: String, _ variables: String = "") throws -> ProgramResult {
    let program = try #require(swiftletPath)
    return try shell("HF_HOME='\(home.path)' HF_ENDPOINT=\(hub.endpoint) \(variables) '\(program)' \(line)")
  }

  private var snapshot: String { "\(home.path)/hub/models--someone--model/snapshots/\(LocalHub.commit)" }

  @Test func pullPrintsTheFolder() throws {
    let result = try swiftlet("pull someone/model --json", "HF_TOKEN=hf_secret")
    #expect(result.status == 0, "\(result.errors)")
    #expect(try JSONValue.parse(result.output)["path"]?.string == snapshot)
    // One line at the end of a log: what there is, what it took.
    #expect(result.errors.hasPrefix("someone/model  ") && result.errors.contains("  100%  "), "\(result.errors)")
    #expect(hub.requestsOfTheHub.allSatisfy { $0.headers["authorization"] == "Bearer hf_secret" })
    #expect(hub.requestsOfTheStore.allSatisfy { $0.headers["authorization"] == nil })
    let names = try FileManager.default.contentsOfDirectory(atPath: snapshot)
    #expect(names.contains("model.safetensors") && !names.contains("onnx"))
  }

  @Test func globsChooseFiles() throws {
    let result = try swiftlet("pull someone/model --include 'onnx/*' --include config.json --revision main")
    #expect(result.output == snapshot + "\n", "\(result.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: snapshot).sorted() == ["config.json", "onnx"])
    let none = try swiftlet("pull someone/model --include '*.nothing'")
    #expect(none.status == 1 && none.message?.hasPrefix("someone/model: no file matches") == true, "\(none.errors)")
  }

  @Test func aModelMayBeARepository() throws {
    let first = try swiftlet("tokenize someone/model --text hello --json")
    #expect(first.status == 0 && first.output.hasPrefix("{\"ids\""), "\(first.errors)")
    // Without the hub, from the cache alone.
    let asked = hub.requests.count
    let offline = try swiftlet("tokenize someone/model --text hello --json", "HF_HUB_OFFLINE=1")
    #expect(offline.output == first.output && hub.requests.count == asked, "\(offline.errors)")
    let other = try swiftlet("tokenize someone/other --text hello", "HF_HUB_OFFLINE=1")
    #expect(other.status != 0 && other.message?.contains("HF_HUB_OFFLINE is set") == true, "\(other.errors)")
    let unknown = try swiftlet("tokenize someone/other --text hello")
    #expect(
      unknown.message?.hasPrefix(
        "there is no file or folder 'someone/other' here; on the hub: someone/other: the hub has")
        == true, "\(unknown.errors)")
  }
}
