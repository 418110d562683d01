# Copies the third-party libraries that LIBRARY needs (Highway) into its folder, under the names that it looks for.
file(GET_RUNTIME_DEPENDENCIES LIBRARIES ${LIBRARY} RESOLVED_DEPENDENCIES_VAR needed UNRESOLVED_DEPENDENCIES_VAR missing
     PRE_INCLUDE_REGEXES "libhwy" PRE_EXCLUDE_REGEXES ".*")
if(missing)
  message(FATAL_ERROR "not found: ${missing}")
endif()
get_filename_component(folder ${LIBRARY} DIRECTORY)
foreach(file ${needed})
  get_filename_component(name ${file} NAME)
  if(NOT file STREQUAL "${folder}/${name}")
    file(COPY ${file} DESTINATION ${folder} FOLLOW_SYMLINK_CHAIN)
  endif()
endforeach()
