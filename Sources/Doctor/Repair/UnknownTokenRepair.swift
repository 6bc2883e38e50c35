import JSONValues
import Tokenization

/// UNK of byte-level models, which have none: U+FFFD, as the published repairs of Phi-4 have it.
///
/// Tokenizer classes in the manner of GPT-2's take `<|endoftext|>` as UNK where nobody names one. U+FFFD has a token, but
/// under its spelling in the byte alphabet (`ï¿½`): a program that looks for `�` itself would add a new token without an
/// embedding row. So the vocabulary's entry gets the name, becomes an added token, and leaves the merges.
struct UnknownTokenRepair {
  static let content = "\u{FFFD}"
  private static let spelling = "ï¿½"

  let token: SpecialToken
  let edits: [Edit]
  let text: String

  /// What gives a model UNK; `nil` where it has one, needs none, or has no such token.
  init?(_ patient: Patient) {
    guard case .folder = patient.kind, patient.declared(.unk) == nil,
      let config = patient.files["tokenizer_config.json"]?.value, config["unk_token"] == nil,
      config["tokenizer_class"]?.string?.hasPrefix("GPT2Tokenizer") == true,
      let json = patient.tokenizerJSON(), let merges = json["model"]?["merges"]?.array
    else { return nil }
    let fields: JSONObject = [
      "content": .string(Self.content), "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
      "special": true,
    ]
    var edits: [Edit] = []
    let vocabulary = json["model"]?["vocab"]
    if let id = vocabulary?[Self.content]?.integer {
      token = SpecialToken(content: Self.content, id: id)
    } else if let id = vocabulary?[Self.spelling]?.integer {
      token = SpecialToken(content: Self.content, id: id)
      let uses = merges.indices.filter { index in
        let pair =
          merges[index].array?.compactMap(\.string) ?? merges[index].string?.split(separator: " ").map(String.init)
        guard let pair else { return false }
        return pair.contains { isSame($0, Self.spelling) } || isSame(pair.joined(), Self.spelling)
      }
      var entry: JSONObject = ["id": .integer(id)]
      for (key, value) in fields { entry[key] = value }
      edits = [
        .rename(file: "tokenizer.json", path: ["model", "vocab", .key(Self.spelling)], to: Self.content),
        .removeElements(file: "tokenizer.json", path: ["model", "merges"], Set(uses)),
        // First: ids of the others are counted on from the vocabulary's size.
        .insertElement(file: "tokenizer.json", path: ["added_tokens"], .object(entry), atStart: true),
      ]
      if config["added_tokens_decoder"]?.object != nil {
        edits.append(
          .set(file: "tokenizer_config.json", path: ["added_tokens_decoder", .key("\(id)")], .object(fields)))
      }
    } else {
      return nil
    }
    self.edits = edits + patient.assign(.unk, token)
    text = "Make \(token.description) UNK, which would be `<|endoftext|>` by the tokenizer's class."
  }
}
