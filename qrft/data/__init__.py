"""The tables that flow between the stages, people's files, problems and samples."""
