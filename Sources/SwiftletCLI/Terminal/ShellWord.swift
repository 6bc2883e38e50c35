/// Words as a shell reads them.
enum ShellWord {
  /// The word, in single quotes where it holds anything but letters, digits and a few harmless marks.
  static func quoted(_ word: String) -> String {
    let isPlain =
      !word.isEmpty
      && word.utf8.allSatisfy { byte in
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || plainMarks.contains(byte)
      }
    return isPlain
      ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }

  private static let plainMarks = Set("-_./=,:+@%".utf8)
}
