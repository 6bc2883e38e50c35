import Glibc
import JSONValues
import ModelFiles
import TestSupport
import Testing
import Tokenization

/// A file beside the tests in `Tests/Golden`.
func golden(_ name: String, file: String = #filePath) -> String {
  "/" + file.split(separator: "/").dropLast(2).joined(separator: "/") + "/Golden/" + name
}

/// The JSON of a golden file.
func goldenJSON(_ name: String) throws -> JSONValue {
  let bytes = TemporaryFolder.bytes(of: golden(name)) ?? []
  return try bytes.withUnsafeBytes { try JSONValue.parse($0) }
}

/// The file of the sample model, where there is one.
let sampleModel = getenv("SWIFTLET_SAMPLE_MODEL").map { String(cString: $0) }

/// One of the small tokenizers of `make_tokenization.py`.
struct GoldenKind: CustomTestStringConvertible, Sendable {
  let name: String
  /// tokenizer.json.
  var json: JSONObject
  let ids: [[Int32]]
  let decoded: [String]
  let skipped: [String]

  var testDescription: String { name }

  static let texts: [String] =
    (try? goldenJSON("tokenization/encodings.json"))?["texts"]?.array?.compactMap(\.string) ?? []

  static let all: [GoldenKind] = (try? read()) ?? []

  private static func read() throws -> [GoldenKind] {
    try goldenJSON("tokenization/encodings.json")["kinds"]?.array?.map { kind in
      var json = kind["rest"]?.object ?? [:]
      json["model"] = try goldenJSON("tokenization/model_\(kind["model"]?.string ?? "").json")
      return GoldenKind(
        name: kind["name"]?.string ?? "", json: json, ids: Self.ids(kind["ids"]),
        decoded: kind["decoded"]?.array?.compactMap(\.string) ?? [],
        skipped: kind["skipped"]?.array?.compactMap(\.string) ?? [])
    } ?? []
  }

  static func ids(_ value: JSONValue?) -> [[Int32]] {
    value?.array?.map { $0.array?.compactMap { $0.integer.map(Int32.init) } ?? [] } ?? []
  }

  static func named(_ name: String) throws -> GoldenKind {
    guard let kind = all.first(where: { $0.name == name }) else { throw TokenizationError("no kind \(name)") }
    return kind
  }

  /// Writes a model folder and reads it.
  func makeTokenizer(_ configuration: JSONObject? = nil, more: JSONObject = [:]) throws -> Tokenizer {
    let folder = try TemporaryFolder()
    var json = json
    for (key, value) in more { json[key] = value }
    _ = try folder.write("tokenizer.json", JSONValue.object(json).serialized())
    if let configuration {
      _ = try folder.write("tokenizer_config.json", JSONValue.object(configuration).serialized())
    }
    return try Tokenizer(folder: folder.path)
  }
}

/// The tokenizer inside of a GGUF file.
func tokenizer(ofGGUF path: String) throws -> Tokenizer {
  let metadata = try GGUFFile(path: path).metadata
  return try Tokenizer(
    gguf: GGUFTokenizerMetadata(
      model: metadata.string("tokenizer.ggml.model") ?? "", pre: metadata.string("tokenizer.ggml.pre") ?? "",
      tokens: metadata.strings("tokenizer.ggml.tokens") ?? [],
      tokenTypes: (metadata.integers("tokenizer.ggml.token_type") ?? []).map { Int32($0) },
      merges: metadata.strings("tokenizer.ggml.merges") ?? [], scores: metadata.floats("tokenizer.ggml.scores") ?? [],
      bosTokenID: metadata.integer("tokenizer.ggml.bos_token_id"),
      eosTokenID: metadata.integer("tokenizer.ggml.eos_token_id"),
      unkTokenID: metadata.integer("tokenizer.ggml.unknown_token_id"),
      padTokenID: metadata.integer("tokenizer.ggml.padding_token_id"),
      addBOS: metadata.bool("tokenizer.ggml.add_bos_token"), addEOS: metadata.bool("tokenizer.ggml.add_eos_token"),
      addSpacePrefix: metadata.bool("tokenizer.ggml.add_space_prefix"),
      chatTemplate: metadata.string("tokenizer.chat_template")))
}

/// Whether two texts are the same bytes; `==` also equates other spellings of the same characters.
func isSame(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }

/// Seconds of this thread's processor time that a body takes, whatever else the machine does.
func processorSeconds(_ body: () throws -> Void) rethrows -> Double {
  func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
  let start = now()
  try body()
  return now() - start
}
