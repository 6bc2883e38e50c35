import JSONValues
import Tokenization

extension Tokenizer: ExampleEncoder {
  var endOfText: Int32? { eosTokenID }

  var hasChatTemplate: Bool { chatTemplate != nil }

  func tokens(of text: String, opens: Bool) -> [Int32] {
    // Data is never read as control: a sample that spells a special token gets its letters.
    encode(text, addSpecialTokens: opens, parseSpecialTokens: false)
  }

  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> (ids: [Int32], isResponse: [Bool]) {
    let masked = try encodeConversation(messages, tools: tools)
    return (masked.ids, masked.isResponse)
  }
}

extension TokenizedDataset {
  /// Tokenizes a dataset; an error names the file and the line.
  ///
  /// A dataset that leaves no example with a trained token is an error.
  public init(_ dataset: Dataset, tokenizer: Tokenizer, options: Options) throws {
    try self.init(dataset, encoder: tokenizer, options: options)
  }
}
