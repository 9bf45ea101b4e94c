// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ClusterBootGate} from "./ClusterBootGate.sol";

/// @dev A small ERC-2535 diamond in the shape of TeeSQL's clusters, for readers' tests: all state and all events are
/// here, and the members that guests name as their application only ask. The one facet is deployed with it.
contract Cluster {
    mapping(bytes4 selector => address facet) public facetAddress;

    constructor() {
        address gate = address(new ClusterBootGate());
        bytes4[] memory selectors = ClusterBootGate(gate).selectors();
        for (uint256 i = 0; i < selectors.length; i++) {
            facetAddress[selectors[i]] = gate;
        }
        (bool done,) = gate.delegatecall(abi.encodeCall(ClusterBootGate.take, (msg.sender)));
        require(done, "no owner");
    }

    fallback() external {
        address facet = facetAddress[msg.sig];
        require(facet != address(0), "no such function");
        assembly ("memory-safe") {
            calldatacopy(0, 0, calldatasize())
            let done := delegatecall(gas(), facet, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch done
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }
}
